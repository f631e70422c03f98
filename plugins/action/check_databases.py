"""Checks what apps, database hosts and backup hosts mean for each other, before any host is contacted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from praetor.inventory.databases import mistakes, warnings
from praetor.run.on_controller import ControllerAction


class ActionModule(ControllerAction):
    """Arguments: `apps` as check_apps returned them; `secrets`, the names of each app's; `max_connections` of the database hosts."""

    def do(self, args: Mapping[str, Any]) -> Mapping[str, object]:
        """Say all mistakes at once."""
        groups = {name: list(hosts) for name, hosts in self.variables["groups"].items()}
        secrets = args["secrets"]
        apps = [{**app, "config_secrets": list(secrets.get(app["name"], {}))} for app in args["apps"]]
        found = mistakes(apps, groups, int(args["max_connections"]))
        if found:
            count = "1 mistake" if len(found) == 1 else f"{len(found)} mistakes"
            message = f"{count} in what the inventory says about databases. No host was contacted."
            return {"failed": True, "msg": message, "mistakes": "\n".join(found) + "\n"}
        return {"warnings": warnings(apps, groups)}
