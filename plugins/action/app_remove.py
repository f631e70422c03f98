"""Removes an app from a host: slots, releases, data, history."""

from __future__ import annotations

from praetor.run.on_host import HostAction


class ActionModule(HostAction):
    """Waits for requests to end, for at most `drain_s` seconds; a second run does nothing."""

    _supports_check_mode = False
    WORK = "removal"
    ARGUMENTS = {  # noqa: RUF012  read only
        "app": {"type": "str", "required": True},
        "drain_s": {"type": "float", "default": 60},
    }
