"""Looks at apps on a host without changing anything."""

from __future__ import annotations

from praetor.run.on_host import HostAction


class ActionModule(HostAction):
    """`apps` maps names to their first server name; the others: `praetor.survey.work`."""

    _supports_check_mode = True
    WORK = "survey"
    ARGUMENTS = {  # noqa: RUF012  read only
        "apps": {"type": "dict", "required": True},
        "wanted": {"type": "dict", "default": {}},
        "probe": {"type": "bool", "default": False},
        "history": {"type": "int", "default": 0},
    }
