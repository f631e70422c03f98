"""Judges on the controller whether a change of the primary may begin, given what all database hosts are."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase

from praetor.run.databases import refusal


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core has no types
    """Arguments: `kind`, switchover, failover or rejoin; `to`, the host; `register`, the variable with what each host is; `force`."""

    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Refuse, or say nothing."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        variables, args = task_vars or {}, self._task.args
        hosts = variables["ansible_play_hosts_all"]
        seen: Any = {host: dict(variables["hostvars"][host].get(args["register"]) or {}) for host in hosts}
        reason = refusal(args["kind"], str(args["to"]), seen, force=bool(args.get("force")))
        if reason:
            return {**result, "failed": True, "msg": f"{reason} Nothing was changed."}
        return {**result, "changed": False}
