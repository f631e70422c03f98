"""Runs a systemd unit of a host with its present files."""

from __future__ import annotations

from typing import Any

from praetor.host import current_unit
from praetor.run.arguments import spec_of
from praetor.run.on_host import HostAction


class ActionModule(HostAction):
    """Arguments: see `praetor.host.current_unit.work`."""

    _supports_check_mode = True
    WORK = "current_unit"
    ARGUMENTS = {name: spec for name, spec in spec_of(current_unit.work).items() if name != "check"}  # noqa: RUF012  read only

    def do(self, args: dict[str, Any]) -> dict[str, Any]:
        """Do it, or find out what would be done."""
        return super().do({**args, "check": self._task.check_mode})
