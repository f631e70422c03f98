"""Filters that turn what one role knows into the input of another; the playbooks connect the two."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ansible.errors import AnsibleFilterError

if TYPE_CHECKING:
    from collections.abc import Callable


def nginx_sites(apps: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Turn checked apps into the sites of role nginx: each at its live socket, within its own limits."""
    return [
        {
            "name": app["name"],
            "server_names": app["server_names"],
            "socket": f"/srv/apps/{app['name']}/live.sock",
            "request_s": app["limits"]["request_s"],
            "body_mb": app["limits"]["body_mb"],
        }
        for app in apps
    ]


def certificate_sites(apps: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Turn checked apps into the sites of role certificates: each with the names that clients use."""
    return [{"name": app["name"], "server_names": app["server_names"]} for app in apps]


def surveyed(apps: list[dict[str, Any]], only: str = "") -> dict[str, str]:
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


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Callable[..., object]]:
        """Name the filters."""
        return {"certificate_sites": certificate_sites, "nginx_sites": nginx_sites, "surveyed": surveyed}
