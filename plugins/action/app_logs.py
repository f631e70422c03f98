"""Reads the log lines of NGINX and an app about requests on a host."""

from __future__ import annotations

from praetor.run.on_host import HostAction


class ActionModule(HostAction):
    """Returns `entries`: the lines about one app since a time, or those about one request.

    With `hosts` it asks the monitoring host's archive for the lines of these, and not a host for its own.
    """

    _supports_check_mode = True
    WORK = "requests"
    ARGUMENTS = {  # noqa: RUF012  read only
        "app": {"type": "str", "required": True},
        "since": {"type": "str", "required": True},
        "request_id": {"type": "str", "default": ""},
        "hosts": {"type": "list", "elements": "str"},
        "logs": {"type": "str", "default": "/var/log/nginx"},
    }
