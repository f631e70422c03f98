"""Reads what NGINX and an app wrote down about requests on a host."""

from __future__ import annotations

import sys
from pathlib import Path

# Plugins run on the controller, where Ansible does not add a project's module_utils to the import path.
_MODULE_UTILS = str(Path(__file__).resolve().parents[2] / "module_utils")
if _MODULE_UTILS not in sys.path:
    sys.path.insert(0, _MODULE_UTILS)

from praetor.on_host import HostAction  # noqa: E402


class ActionModule(HostAction):
    """Returns `entries`: the lines about one app since a time, or those about one request."""

    _supports_check_mode = True
    WORK = "requests"
    ARGUMENTS = {  # noqa: RUF012  read only
        "app": {"type": "str", "required": True},
        "since": {"type": "str", "required": True},
        "request_id": {"type": "str", "default": ""},
        "logs": {"type": "str", "default": "/var/log/nginx"},
    }
