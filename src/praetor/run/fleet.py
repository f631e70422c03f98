"""What the balancers' answers mean for a host that is about to leave or to come back. Pure decisions; runs on the controller."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from praetor.host.balancer import Server, Servers

OUT = ("NOLB", "DOWN", "MAINT", "DRAIN")  # a drained host that reboots is DOWN: a 404 does not lift one that is


def in_use(server: Server) -> bool:
    """Whether new requests go there; `UP 1/2` is a host on its way out that still gets them."""
    return server["status"].startswith("UP")


def alone(servers: Servers, host: str, keep: int) -> list[str]:
    """Return why a host must not leave: the apps that fewer than `keep` other hosts serve. Without a host: the apps that fewer than `keep` hosts serve."""
    found = []
    for app, hosts in servers.items():
        others = [name for name, server in hosts.items() if name != host and in_use(server)]
        if (host in hosts or not host) and len(others) < keep:
            states = ", ".join(f"{name} {server['status']}" for name, server in hosts.items() if name != host)
            found.append(f"{app}: {len(others)} of at least {keep} serve ({states or 'no other host'})")
    return found


def busy(servers: Servers, host: str) -> list[str]:
    """Return the work that a leaving host still has, an entry for each app; nothing when it has none."""
    found = []
    for app, server in _of(servers, host).items():
        waiting = server["sessions"] + server["queued"]
        if not server["status"].startswith(OUT):
            found.append(f"{app}: still {server['status']}")
        elif waiting:
            found.append(f"{app}: {waiting} request{'s' if waiting > 1 else ''}")
    return found


def unused(servers: Servers, host: str) -> list[str]:
    """Return the apps for which a host should get requests and does not yet."""
    found = _of(servers, host)
    if not found:
        return [f"does not know {host}: run provision.yml for the balancers"]
    return [f"{app}: {server['status']} ({server['why']})" for app, server in found.items() if not in_use(server)]


def strangers(looks: Mapping[str, Servers], hosts: list[str]) -> list[str]:
    """Return the hosts that balancers know and the inventory does not."""
    return sorted({name for servers in looks.values() for each in servers.values() for name in each} - {*hosts})


def _of(servers: Servers, host: str) -> dict[str, Server]:
    return {app: hosts[host] for app, hosts in servers.items() if host in hosts}
