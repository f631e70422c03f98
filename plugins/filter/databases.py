"""Filters that put together what the tasks of database hosts need: names of replication slots, and which host is what."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict

from praetor.run.databases import slot

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping


class Cluster(TypedDict):
    """Which of some hosts take writes, and which of them is the primary; empty where that is not clear."""

    primaries: list[str]
    primary: str


def replication_slots(hosts: Iterable[str]) -> list[str]:
    """Name the replication slots of hosts."""
    return [slot(host) for host in hosts]


def cluster_of(hosts: Iterable[str], hostvars: Mapping[str, Any], register: str) -> Cluster:
    """Find the primary: the first host that takes writes; where none has a cluster yet, the first host.

    Args:
        hosts: the database hosts.
        hostvars: the variables of all hosts.
        register: the variable with what module postgresql_cluster found on each of them.

    """
    found = {host: hostvars[host][register] for host in hosts}
    primaries = [host for host, one in found.items() if one["primary"]]
    first = primaries or ([] if any(one["exists"] for one in found.values()) else list(found))
    return {"primaries": primaries, "primary": next(iter(first), "")}


def debian_of(hosts: Iterable[str], hostvars: Mapping[str, Any]) -> dict[str, str]:
    """Say which release of Debian each host has."""
    return {host: hostvars[host]["ansible_facts"]["distribution_major_version"] for host in hosts}


def only(values: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    """Take the values of these names only."""
    return {name: value for name, value in values.items() if name in names}


def all_but(values: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Take the values of all other names."""
    return {other: value for other, value in values.items() if other != name}


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Callable[..., object]]:
        """Name the filters."""
        return {
            "all_but": all_but,
            "cluster_of": cluster_of,
            "debian_of": debian_of,
            "only": only,
            "replication_slot": slot,
            "replication_slots": replication_slots,
        }
