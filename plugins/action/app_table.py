"""Prints what the surveys of all hosts found as one table, or as one line of JSON; contacts no host."""

from __future__ import annotations

import json
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from praetor.run.tables import TABLES, text


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core has no types
    """Prints one table.

    Arguments: `table`, status, history or demo; `register`, the variable with each host's survey; `format`, table or json. For demo also
    `certificates`, who issues those of the sites, and `authority`, the file with the internal one's; `balancers`, the results of asking these.
    """

    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Print."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        variables, args = task_vars or {}, self._task.args
        surveys = {}
        for host in variables["ansible_play_hosts_all"]:
            seen = variables["hostvars"][host].get(args["register"]) or {}
            address = variables["hostvars"][host].get("ansible_host", host)
            surveys[host] = {**seen, "address": str(address), "tls": args.get("certificates") != "none"}
            surveys[host]["authority"] = args["authority"] if args.get("certificates") == "internal" else ""
        # What balancers said is about all hosts; it lies with the first.
        looks = {each["item"]: each["servers"] for each in args.get("balancers", []) if "servers" in each}
        if looks:
            first = surveys[variables["ansible_play_hosts_all"][0]]
            closed = {app: until for each in args["balancers"] for app, until in each.get("closed", {}).items()}
            first |= {"balancers": looks, "fleet": list(variables["groups"].get("app_hosts", [])), "closed": closed}
        table = args["table"]
        Display().display(
            json.dumps(TABLES[table](surveys)) if args["format"] == "json" else f"\n{text(table, surveys)}\n"
        )
        return {**result, "changed": False}
