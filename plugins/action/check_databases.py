"""Checks what apps, database hosts and backup hosts mean for each other, before any host is contacted."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase

from praetor.inventory.databases import mistakes, warnings


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core has no types
    """Arguments: `apps` as check_apps returned them; `secrets`, the names of each app's; `max_connections` of the database hosts."""

    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Say all mistakes at once."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        args = self._task.args
        groups = {name: list(hosts) for name, hosts in (task_vars or {})["groups"].items()}
        secrets = args["secrets"]
        apps = [{**app, "config_secrets": list(secrets.get(app["name"], {}))} for app in args["apps"]]
        found = mistakes(apps, groups, int(args["max_connections"]))
        if found:
            count = "1 mistake" if len(found) == 1 else f"{len(found)} mistakes"
            message = f"{count} in what the inventory says about databases. No host was contacted."
            return {**result, "failed": True, "msg": message, "mistakes": "\n".join(found) + "\n"}
        return {**result, "changed": False, "warnings": warnings(apps, groups)}
