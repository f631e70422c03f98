"""Looks at apps on a host without changing anything."""

from __future__ import annotations

import sys
from pathlib import Path

# Plugins run on the controller, where Ansible does not add a project's module_utils to the import path.
_MODULE_UTILS = str(Path(__file__).resolve().parents[2] / "module_utils")
if _MODULE_UTILS not in sys.path:
    sys.path.insert(0, _MODULE_UTILS)

from praetor.on_host import HostAction  # noqa: E402


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
