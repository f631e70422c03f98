#!/usr/bin/python
"""Start a staged release's slot and wait until it is healthy on its private socket."""

from __future__ import annotations

from typing import Any

from ansible.module_utils.praetor import call
from ansible.module_utils.praetor.gate import gate
from ansible.module_utils.praetor.host import AppHost, ReleaseError
from ansible.module_utils.praetor.journal import phase


def work(params: dict[str, Any]) -> dict[str, Any]:
    """Gate the release."""
    host = AppHost(params["app"])
    with phase(host, params["run"], "gate") as journal:
        manifest = host.manifest(params["release"])
        if manifest is None:
            raise ReleaseError(
                f"release {params['release']} is not on this host; it has: {', '.join(host.releases()) or 'none'}"
            )
        live = host.live()
        slot = gate(host, manifest, params["server_name"], params["clients"], journal)
    return {"changed": slot != live, "slot": slot.name}


def main() -> None:
    """Describe the arguments."""
    call.run(
        {
            "app": {"type": "str", "required": True},
            "run": call.RUN,
            "release": {"type": "str", "required": True},
            "server_name": {"type": "str", "required": True},
            "clients": {"type": "str", "default": "www-data"},
        },
        work,
    )


if __name__ == "__main__":
    main()
