"""Finds where a process that runs once runs, and whether it may move; contacts no host."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ansible.utils.display import Display

from praetor.run.on_controller import ControllerAction
from praetor.run.places import move

if TYPE_CHECKING:
    from praetor.documents import Surveys


class ActionModule(ControllerAction):
    """Returns the hosts where the process `ends`, and the one where it `starts`; none where it is already.

    Arguments: `apps` as check_inventory returned them; `register`, the variable with each host's survey; `app`, `process`, `to`; `dead`, a host that is off.
    """

    def do(self, args: Mapping[str, Any]) -> Mapping[str, object]:
        """Find."""
        once = {
            app["name"]: [each["name"] for each in app["processes"] if each["one"]]
            + [each["name"] for each in app["jobs"] if each["on"] == "once"]
            for app in args["apps"]
        }
        # Of hosts that a --limit leaves out nobody knows what they run.
        hosts = self.variables["groups"]["app_hosts"]
        surveys: Surveys = {host: self.variables["hostvars"][host].get(args["register"], {}) for host in hosts}
        found = move(once, surveys, args["app"], args["process"], args["to"], args["dead"])
        ends = f" ends on {', '.join(found['ends'])}, then" if found["ends"] else ""
        said = f"{ends} starts on {found['starts']}" if found["starts"] else f" runs on {args['to']} already"
        Display().display(f"{args['app']}: {args['process']}{said}")
        return {"ends": found["ends"], "starts": found["starts"]}
