"""Prints what app_logs found on all hosts in time order; contacts no host."""

from __future__ import annotations

import json
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from praetor.run.requests import merge, render


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core has no types
    """Prints lines. Arguments: `register`, the variable with each host's entries; `format`, text or json."""

    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Print."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        variables, args = task_vars or {}, self._task.args
        found = {}
        for host in variables["ansible_play_hosts_all"]:
            seen = variables["hostvars"][host].get(args["register"]) or {}
            found[host] = list(seen.get("entries") or [])
        entries = merge(found)
        as_json = args["format"] == "json"
        text = "\n".join(json.dumps(entry) if as_json else render(entry) for entry in entries)
        Display().display(f"\n{text or '(nothing)'}\n" if not as_json else text)
        return {**result, "changed": False}
