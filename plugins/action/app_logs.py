"""Reads the log lines of NGINX and an app, or of HAProxy, about requests on a host."""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleConnectionFailure

from praetor.run.away import reason
from praetor.run.on_host import HostAction


class ActionModule(HostAction):
    """Returns `entries`: the lines about one app since a time, or those about one request.

    With `hosts` it asks the monitoring host's archive for the lines of these, and not a host for its own. A host that cannot be reached is no
    failure: the answer has the reason as `away`.
    """

    _supports_check_mode = True
    WORK = "requests"
    ARGUMENTS = {  # noqa: RUF012  read only
        "app": {"type": "str", "required": True},
        "since": {"type": "str", "required": True},
        "request_id": {"type": "str", "default": ""},
        "hosts": {"type": "list", "elements": "str"},
        "by": {"type": "str", "choices": ["nginx", "haproxy"], "default": "nginx"},
        "logs": {"type": "str", "default": "/var/log/nginx"},
    }

    def do(self, args: dict[str, Any]) -> dict[str, Any]:
        """Read."""
        try:
            return super().do(args)
        except AnsibleConnectionFailure as error:
            return {"away": reason(str(error))}
