"""Removes an app from a host: slots, releases, data, history."""

from __future__ import annotations

import sys
from pathlib import Path

# Plugins run on the controller, where Ansible does not add a project's module_utils to the import path.
_MODULE_UTILS = str(Path(__file__).resolve().parents[2] / "module_utils")
if _MODULE_UTILS not in sys.path:
    sys.path.insert(0, _MODULE_UTILS)

from praetor.on_host import HostAction  # noqa: E402


class ActionModule(HostAction):
    """Lets requests end for `drain_s` seconds at most; done twice it does nothing."""

    _supports_check_mode = False
    WORK = "removal"
    ARGUMENTS = {  # noqa: RUF012  read only
        "app": {"type": "str", "required": True},
        "drain_s": {"type": "float", "default": 60},
    }
