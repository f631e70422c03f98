"""Runs a process of the live release on a host so many times, and no more."""

from __future__ import annotations

from praetor.run.on_host import HostAction


class ActionModule(HostAction):
    """Arguments: `app`, `process`, `count`. Returns when it is ready, or has ended."""

    _supports_check_mode = False
    WORK = "processes"
    ARGUMENTS = {  # noqa: RUF012  read only
        "app": {"type": "str", "required": True},
        "process": {"type": "str", "required": True},
        "count": {"type": "int", "required": True},
    }
