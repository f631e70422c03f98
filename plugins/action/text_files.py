"""Writes several text files on a host in one call."""

from __future__ import annotations

from typing import Any

from praetor.host import text_files
from praetor.run.arguments import spec_of
from praetor.run.on_host import HostAction


class ActionModule(HostAction):
    """Arguments: see `praetor.host.text_files.work`."""

    _supports_check_mode = True
    WORK = "text_files"
    ARGUMENTS = {name: spec for name, spec in spec_of(text_files.work).items() if name != "check"}  # noqa: RUF012  read only

    def do(self, args: dict[str, Any]) -> dict[str, Any]:
        """Do it, or find out what would be done."""
        return super().do({**args, "check": self._task.check_mode})
