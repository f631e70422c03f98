"""Removes an app from a host: slots, releases, data, history."""

from __future__ import annotations

from praetor.run.on_host import HostAction


class ActionModule(HostAction):
    """Lets requests end for `drain_s` seconds at most; done twice it does nothing."""

    _supports_check_mode = False
    WORK = "removal"
    ARGUMENTS = {  # noqa: RUF012  read only
        "app": {"type": "str", "required": True},
        "drain_s": {"type": "float", "default": 60},
    }
