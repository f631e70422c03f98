"""Finds the release of each app that is live on all hosts, to be started again; contacts no host."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible.utils.display import Display

from praetor.run.on_controller import ControllerAction
from praetor.run.owner import start
from praetor.run.places import fleet, places
from praetor.run.plan import live_everywhere, target
from praetor.run.story import together


class ActionModule(ControllerAction):
    """Returns the `releases` to start again, and `run`, as app_plan does.

    Arguments: `apps` as check_inventory returned them; `register`, the variable with each host's survey; `only`, one app; `why`.
    """

    def do(self, args: Mapping[str, Any]) -> Mapping[str, object]:
        """Find."""
        surveys = self.surveys(args["register"])
        apps = [app for app in args["apps"] if args["only"] in ("", app["name"])]
        releases = [target(app, live_everywhere(app["name"], surveys), self.hosts) for app in apps]
        for each in releases:
            each["places"] = places(each["app"], surveys, fleet(each["app"], self.variables))
            Display().display(f"{each['app']}: start {each['id']} again")
            outdated = {host: survey["apps"][each["app"]]["outdated"] for host, survey in surveys.items()}
            for line in together((host, "; ".join(why) or "nothing asks for it") for host, why in outdated.items()):
                Display().display(f"  {line}")
        return {"releases": releases, "run": self.planned(start("refresh", args["why"]), releases)}
