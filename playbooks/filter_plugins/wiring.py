"""Filters that turn what one role knows into the input of another; the playbooks connect the two."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Callable[..., object]]:
        """Name the filters."""
        return {"certificate_sites": certificate_sites, "nginx_sites": nginx_sites}
