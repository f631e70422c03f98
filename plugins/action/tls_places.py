"""Removes the keys of sites that are gone."""

from __future__ import annotations

from typing import Any

from praetor.run.on_host import HostAction


class ActionModule(HostAction):
    """Arguments: `root`, and `sites`, the places that stay; see `praetor.host.tls_places.work`."""

    _supports_check_mode = True
    WORK = "tls_places"
    ARGUMENTS = {  # noqa: RUF012  read only
        "root": {"type": "path", "required": True},
        "sites": {"type": "list", "elements": "str", "required": True},
    }

    def do(self, args: dict[str, Any]) -> dict[str, Any]:
        """Do it, or find out what would be done."""
        return super().do({**args, "check": self._task.check_mode})
