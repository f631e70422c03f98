"""Says what a restore found, or why there is none; contacts no host."""

from __future__ import annotations

import json
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from praetor.run.databases import restored


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core has no types
    """Arguments: `copy`, what database-restore wrote; `said`, its complaints; `host`, where."""

    TRANSFERS_FILES = False
    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Print, or fail."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        args = self._task.args
        lines = [line for line in str(args["copy"]).splitlines() if line.startswith("{")]
        found: Any = json.loads(lines[-1]) if lines else {"error": str(args["said"]) or "database-restore said nothing"}
        if "error" in found:
            return {
                **result,
                "failed": True,
                "msg": f"{args['host']}: nothing was restored, and what serves was not touched. {found['error']}",
            }
        Display().display("\n" + restored(str(args["host"]), found) + "\n")
        return {**result, "changed": False, "restored": found}
