"""Forbids releases of an app until a time, or allows them again."""

from __future__ import annotations

from typing import Any

from praetor.run.on_host import HostAction


class ActionModule(HostAction):
    """`until_time` and `reason`, or `thaw`."""

    _supports_check_mode = True
    WORK = "freeze"
    ARGUMENTS = {  # noqa: RUF012  read only
        "app": {"type": "str", "required": True},
        "until_time": {"type": "str", "default": ""},
        "reason": {"type": "str", "default": ""},
        "by": {"type": "str", "required": True},
        "thaw": {"type": "bool", "default": False},
    }

    def do(self, args: dict[str, Any]) -> dict[str, Any]:
        """Write or remove the freeze; with --check only say what would change."""
        return super().do({**args, "check": bool(self._task.check_mode)})
