"""Keeps live slots from before FastCGI in reach of NGINX."""

from __future__ import annotations

from typing import Any

from praetor.run.on_host import HostAction


class ActionModule(HostAction):
    """Arguments: see `praetor.host.site.work`."""

    _supports_check_mode = True
    WORK = "site"
    ARGUMENTS = {"sites": {"type": "dict", "required": True}}  # noqa: RUF012  read only

    def do(self, args: dict[str, Any]) -> dict[str, Any]:
        """Do it, or find out what would be done."""
        return super().do({**args, "check": self._task.check_mode})
