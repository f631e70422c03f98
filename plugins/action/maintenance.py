"""Begins or ends the maintenance of an app on a host that answers clients."""

from __future__ import annotations

import time
from typing import Any

from ansible.errors import AnsibleActionFail

from praetor.run import maintenance
from praetor.run.on_host import HostAction


class ActionModule(HostAction):
    """Arguments: `app`, a checked app; `by`, who answers clients here; `for_time`, `allow`, `hold`, `end` as the operator wrote them.

    Returns `until`, when it ends; without a host (`check_only`) it only says what is wrong with what was written.
    """

    _supports_check_mode = False
    WORK = "maintenance"
    ARGUMENTS = {  # noqa: RUF012  read only
        "app": {"type": "dict", "required": True},
        "by": {"type": "str", "choices": ["haproxy", "nginx"], "required": True},
        "for_time": {"type": "str", "default": ""},
        "allow": {"type": "str", "default": ""},
        "hold": {"type": "str", "default": ""},
        "end": {"type": "bool", "default": False},
        "check_only": {"type": "bool", "default": False},
    }

    def do(self, args: dict[str, Any]) -> dict[str, Any]:
        """Read what is asked for, and do it."""
        try:
            asked = maintenance.asked(
                args["for_time"], args["allow"], args["hold"], end=args["end"], balancers=args["by"] == "haproxy"
            )
        except maintenance.MaintenanceError as error:
            raise AnsibleActionFail(f"{error}. Nothing was changed") from error
        if args["check_only"]:
            return {"changed": False}
        app = args["app"]
        answer = super().do({"app": app["name"], "server_name": app["server_names"][0], "by": args["by"], **asked})
        if answer.get("failed"):
            return answer
        ends = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(answer["until"]))
        what = f"requests wait until {ends} at most" if asked["hold_s"] else f"clients get 503 until {ends}"
        return {**answer, "says": f"{app['name']}: {'clients are answered' if asked['end'] else what}"}
