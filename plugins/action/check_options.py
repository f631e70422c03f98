"""Refuses values of `-e` that nothing reads; contacts no host. The options stand in `praetor.run.options`."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase

from praetor.run.asked import refusal


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core has no types
    """Takes no arguments. Fails for an option that the playbook does not have; with `-e help=true` prints those that it has, and ends.

    Playbooks that begin with check.yml need no such task: check_inventory does the same first.
    """

    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True
    _VALID_ARGS: frozenset[str] = frozenset()

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Check."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        if refused := refusal(self._loader, task_vars or {}):
            return {**result, "failed": True, "msg": refused}
        return {**result, "changed": False}
