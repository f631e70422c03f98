"""In which batches the hosts of a run are flipped."""

import pytest

from praetor.run.batches import batches

HOSTS = [f"web{number}" for number in range(10)]


def sizes(hosts: int, *wanted: str) -> list[int]:
    return [len(batch) for batch in batches(HOSTS[:hosts], list(wanted))]


@pytest.mark.parametrize(
    ("hosts", "wanted", "expected"),
    [
        (10, ["1", "25%"], [1, 2, 2, 2, 2, 1]),
        (3, ["1", "25%"], [1, 1, 1]),
        (10, ["100%"], [10]),
        (10, ["3"], [3, 3, 3, 1]),
        (2, ["5"], [2]),
        (10, ["1", "2", "4"], [1, 2, 4, 3]),
        (10, ["1%"], [1] * 10),
        (0, ["1"], []),
    ],
)
def test_hosts_are_cut_into_batches(hosts: int, wanted: list[str], expected: list[int]) -> None:
    assert sizes(hosts, *wanted) == expected


def test_every_host_is_flipped_once_and_in_order() -> None:
    assert [host for batch in batches(HOSTS, ["1", "30%"]) for host in batch] == HOSTS
