"""Takes the lock of a run on a host; frees that of a dead owner, or waits for a living one."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase

# Plugins run on the controller, where Ansible does not add a project's module_utils to the import path.
_MODULE_UTILS = str(Path(__file__).resolve().parents[2] / "module_utils")
if _MODULE_UTILS not in sys.path:
    sys.path.insert(0, _MODULE_UTILS)

from praetor.owner import until_locked  # noqa: E402


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core has no types
    """Runs the module of the same name; `lock_wait` is how many seconds to wait for another run."""

    _supports_check_mode = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Take the lock."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        args = dict(self._task.args)
        wait = float(args.pop("lock_wait", 0) or 0)
        return {
            **result,
            **until_locked(lambda args: dict(self._execute_module(module_args=args, task_vars=task_vars)), args, wait),
        }
