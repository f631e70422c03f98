"""Filters that turn what one role knows into the input of another; the playbooks connect the two."""

from __future__ import annotations

import ipaddress
import socket
from typing import TYPE_CHECKING, Any

from ansible.errors import AnsibleFilterError

if TYPE_CHECKING:
    from collections.abc import Callable


def nginx_sites(apps: list[dict[str, Any]], certificates: str) -> list[dict[str, Any]]:
    """Turn checked apps into the sites of role nginx: each at its live socket, within its own limits.

    Args:
        apps: as the inventory's check returns them
        certificates: the mode of role certificates, which says whether a site has one

    """
    sites = []
    for app in apps:
        site = {
            "name": app["name"],
            "server_names": app["server_names"],
            "socket": f"/srv/apps/{app['name']}/live.sock",
            "request_s": app["limits"]["request_s"],
            "body_mb": app["limits"]["body_mb"],
        }
        if certificates != "none":
            place = f"/etc/praetor/tls/sites/{app['name']}"
            site |= {"certificate": f"{place}/fullchain.pem", "key": f"{place}/key.pem"}
        sites.append(site)
    return sites


def certificate_sites(apps: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Turn checked apps into the sites of role certificates: each with the names that clients use."""
    return [{"name": app["name"], "server_names": app["server_names"]} for app in apps]


def access_logs(apps: list[dict[str, Any]]) -> list[str]:
    """Return where role nginx logs the requests to each app."""
    return [f"/var/log/nginx/{app['name']}.access.log" for app in apps]


def survey_targets(apps: list[dict[str, Any]], only: str = "") -> dict[str, str]:
    """Turn checked apps into what a survey asks for: the names, each with the server name that its health check uses.

    Args:
        apps: the inventory's.
        only: the name of the one to look at; all when empty.

    Raises:
        AnsibleFilterError: the inventory has no app of that name.
    """
    names = {app["name"]: app["server_names"][0] for app in apps}
    if only and only not in names:
        raise AnsibleFilterError(f"-e app={only}: the inventory has no such app, expected one of: {', '.join(names)}")
    return {only: names[only]} if only else names


def addresses(hosts: list[str], variables: dict[str, dict[str, Any]]) -> list[str]:
    """Return the addresses of hosts; a firewall cannot be told names, so these are looked up on the controller.

    Raises:
        AnsibleFilterError: a name has no address.

    """
    found = []
    for host in hosts:
        name = str(variables[host].get("ansible_host", host))
        try:
            found.append(str(ipaddress.ip_address(name)))
        except ValueError:
            try:
                answers = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
            except OSError as error:
                raise AnsibleFilterError(
                    f"{host}: the firewall needs its address, and {name} has none: {error}"
                ) from error
            found += sorted({str(answer[4][0]) for answer in answers})
    return sorted(set(found))


def firewall_allow(
    host: str, groups: dict[str, list[str]], variables: dict[str, dict[str, Any]]
) -> list[dict[str, Any]]:
    """Return what may come in besides SSH: sites to all, metrics to monitoring hosts, logs from app hosts."""
    apps, monitoring = groups.get("app_hosts", []), groups.get("monitoring_hosts", [])
    allowed: list[dict[str, Any]] = []
    if host in apps:
        allowed.append({"name": "sites", "ports": [80, 443]})
    if monitoring:
        allowed.append({"name": "metrics", "ports": [9443], "from": addresses(monitoring, variables)})
    if host in monitoring:
        allowed.append({"name": "logs", "ports": [19532], "from": addresses(apps, variables)})
    return allowed


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Callable[..., object]]:
        """Name the filters."""
        return {
            "access_logs": access_logs,
            "addresses": addresses,
            "certificate_sites": certificate_sites,
            "firewall_allow": firewall_allow,
            "nginx_sites": nginx_sites,
            "survey_targets": survey_targets,
        }
