"""What queues and caches have, as status.yml shows it. Pure Python; runs on the controller."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypedDict


class Seen(TypedDict, total=False):
    """What an instance reports about itself, as redis-instance on its host writes it; without `used_bytes`, it did not answer."""

    name: str
    keeps: str
    port: int
    used_bytes: int
    limit_bytes: int
    clients: int
    keys: int
    evicted: int
    refused: int
    written: bool


def rows(seen: Mapping[str, Sequence[Seen] | None]) -> list[dict[str, str | int]]:
    """A row per instance; one for a host that gave no answer."""
    found: list[dict[str, str | int]] = []
    for host, instances in seen.items():
        if instances is None:
            found.append({"host": host, "redis": "no answer"})
        for one in instances or []:
            row: dict[str, str | int] = {"host": host, "redis": one["name"], "state": "no answer"}
            if "used_bytes" in one:
                share = one["used_bytes"] / max(one["limit_bytes"], 1)
                memory = f"{share:.0%} of {one['limit_bytes'] // 2**20} MiB"
                row |= {"state": "up", "memory": memory, "keys": one["keys"], "clients": one["clients"]}
            found.append(row)
    columns = ("host", "redis", "state", "memory", "keys", "clients")
    return [{column: row.get(column, "-") for column in columns} for row in found]


def notes(seen: Mapping[str, Sequence[Seen] | None]) -> list[str]:
    """Say what is not as it should be."""
    lines = []
    for host, instances in seen.items():
        if instances is None:
            lines.append(f"{host} does not say what queues and caches it has: docs/runbooks/RedisDown.md")
        for one in instances or []:
            name = one["name"]
            if "used_bytes" not in one:
                lines.append(f"{host}: {name} does not answer; systemctl status redis-server@{name} there")
                continue
            if not one["written"]:
                lines.append(f"{host}: {name} cannot be written to disk: docs/runbooks/RedisNotOnDisk.md")
            if one["keeps"] == "queue" and one["used_bytes"] >= 0.99 * one["limit_bytes"]:
                lines.append(f"{host}: {name} is full and refuses jobs: docs/runbooks/RedisWritesRefused.md")
    return lines
