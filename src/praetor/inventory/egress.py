"""Where apps may connect to, as far as the inventory knows it better than an entry: the services that the project runs for them."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from praetor.documents import Entry

from .databases import PORT
from .redis import instances


def with_services(
    apps: Iterable[Entry], groups: Mapping[str, Sequence[str]], variables: Mapping[str, Mapping[str, Any]]
) -> list[Entry]:
    """Return checked apps, each allowed to connect to the databases, queues and caches that it asks for; one that may connect to anything is left as it is.

    Raises:
        ValueError: a host has no address.
    """
    found: list[Entry] = []
    for app in apps:
        may = app["egress"]
        if may is not None and app["database"] is not None and groups.get("database_hosts"):
            databases = addresses(groups["database_hosts"], variables)
            may = [*may, {"to": databases, "ports": [PORT], "protocol": "tcp"}]
        if may is not None and app.get("redis") is not None and groups.get("redis_hosts"):
            ports = [one["port"] for one in instances([app])]
            may = [*may, {"to": addresses(groups["redis_hosts"], variables), "ports": ports, "protocol": "tcp"}]
        found.append({**app, "egress": may})
    return found


def addresses(hosts: Iterable[str], variables: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the addresses of hosts; a firewall cannot be told names, so these are looked up on the controller.

    Raises:
        ValueError: a name has no address.
    """
    found: set[str] = set()
    for host in hosts:
        name = str(variables[host].get("ansible_host", host))
        try:
            found.add(str(ipaddress.ip_address(name)))
        except ValueError:
            try:
                answers = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
            except OSError as error:
                reason = f"{host}: the firewall needs its address, and {name} has none: {error}"
                raise ValueError(reason) from error
            found |= {str(answer[4][0]) for answer in answers}
    return sorted(found)
