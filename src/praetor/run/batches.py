"""In which batches the hosts of a run are flipped."""

from __future__ import annotations


def batches(hosts: list[str], sizes: list[str]) -> list[list[str]]:
    """Cut hosts into batches, in their order; the last size repeats.

    Args:
        hosts: all hosts of the run.
        sizes: numbers of hosts ("2") or shares of all of them ("25%", rounded down, at least one host).
    """
    found: list[list[str]] = []
    rest = list(hosts)
    while rest:
        size = sizes[min(len(found), len(sizes) - 1)]
        count = len(hosts) * int(size[:-1]) // 100 if size.endswith("%") else int(size)
        found.append(rest[: max(count, 1)])
        rest = rest[max(count, 1) :]
    return found
