"""What an inventory may say about its balancers. Contacts nobody."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

MOST = 2
SUPPORTED_MODES = ("internal", "provided", "acme")

Interface = ipaddress.IPv4Interface | ipaddress.IPv6Interface


class BalancerVariables(TypedDict):
    """What the check needs of a balancer's variables."""

    ansible_host: str
    keepalived_addresses: list[str]
    keepalived_router_id: int


class CheckedApp(TypedDict):
    """What the check needs of an app."""

    name: str
    path: str | None  # of its health check
    status: int | None
    authority: bool  # whether clients show certificates


def problems(
    balancers: Mapping[str, BalancerVariables],
    elsewhere: Iterable[str],
    apps: Sequence[CheckedApp],
    certificates_mode: str,
) -> list[str]:
    """Return why these balancers cannot work, a sentence each with what was found and what is expected.

    Args:
        balancers: the hosts of the group balancer_hosts, with their variables.
        elsewhere: the hosts of the other groups, which have separate servers on the same ports.
        apps: the inventory's.
        certificates_mode: where the certificates that clients meet come from.
    """
    if not balancers:
        return []
    found = [
        f"{host}: found in balancer_hosts and in another group, expected in one: both would listen on the same ports"
        for host in sorted({*balancers} & {*elsewhere})
    ]
    if len(balancers) > MOST:
        found.append(f"groups.balancer_hosts: found {len(balancers)} hosts, expected one or two")
    if certificates_mode not in SUPPORTED_MODES:
        is_plain = certificates_mode == "none"
        reason = (
            "balancers end the clients' TLS, and app hosts are spoken to over TLS"
            if is_plain
            else "there is no such mode"
        )
        expected = ", ".join(SUPPORTED_MODES[:-1]) + f" or {SUPPORTED_MODES[-1]}"
        found.append(f"certificates_mode: found {certificates_mode}, expected {expected} with balancer_hosts: {reason}")
    found += [
        f"apps {app['name']}: found health.status 404, expected another one with balancer_hosts: 404 says that a host is drained"
        for app in apps
        if app["status"] == 404
    ]
    # With neither, any answer below 500 will do for a release; a 404 of its first page would drain every host.
    found += [
        f"apps {app['name']}: found neither health.path nor health.status, expected one with balancer_hosts: "
        "they ask each host every second whether it can serve this app"
        for app in apps
        if not app["path"] and app["status"] is None
    ]
    found += [
        f"apps {app['name']}: found http.access.authority, expected none with balancer_hosts: they end the clients' TLS, and ask the hosts without "
        "a certificate"
        for app in apps
        if app["authority"]
    ]
    return found + _addresses(balancers)


def _addresses(balancers: Mapping[str, BalancerVariables]) -> list[str]:
    first, *rest = balancers.items()
    found = [
        f"{host}: found {name} {variables[name]!r}, expected that of {first[0]}, {first[1][name]!r}: two balancers share their addresses"
        for host, variables in rest
        for name in ("keepalived_addresses", "keepalived_router_id")
        if variables[name] != first[1][name]
    ]
    if found:
        return found
    wanted, number = first[1]["keepalived_addresses"], first[1]["keepalived_router_id"]
    if len(balancers) > 1 and not wanted:
        found.append(
            "keepalived_addresses: found none with two balancers, expected the address that clients use: [198.51.100.20/24]. "
            "Without one nobody takes over for a balancer that dies"
        )
    if not 1 <= number <= 255:
        found.append(f"keepalived_router_id: found {number}, expected 1 to 255")
    shared: list[Interface] = []
    for text in wanted:
        try:
            held = ipaddress.ip_interface(text)
        except ValueError:
            held = None
        if held is None or "/" not in text:
            found.append(
                f"keepalived_addresses: found {text}, expected an address with the prefix of its network: 198.51.100.20/24"
            )
        else:
            shared.append(held)
    for version in (4, 6):
        if sum(held.version == version for held in shared) > 1:
            found.append(f"keepalived_addresses: found more than one IPv{version} address, expected at most one")
    return found + [line for held in shared for line in _reachable(held, balancers)]


def _reachable(held: Interface, balancers: Mapping[str, BalancerVariables]) -> list[str]:
    """Return why an address cannot be held by these hosts; a host that is named is looked up by nobody here."""
    found = []
    for host, variables in balancers.items():
        try:
            own = ipaddress.ip_address(variables["ansible_host"])
        except ValueError:
            continue
        if own == held.ip:
            found.append(
                f"keepalived_addresses: found {held.ip}, which is {host} itself; expected an address that no host has"
            )
        elif own.version == held.version and own not in held.network:
            found.append(
                f"keepalived_addresses: found {held}, expected an address in the network of {host} ({own}): a host elsewhere cannot take it"
            )
    return found
