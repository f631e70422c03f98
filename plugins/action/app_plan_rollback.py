"""Chooses the earlier release that all hosts go back to; contacts no host."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible.utils.display import Display

from praetor.host.layout import ReleaseError
from praetor.run.notices import is_wanted
from praetor.run.on_controller import ControllerAction
from praetor.run.owner import start
from praetor.run.places import fleet, places
from praetor.run.plan import rollback_target, target
from praetor.run.story import together


class ActionModule(ControllerAction):
    """Returns `releases`, the one to go back to, and `run`, `travel` and `tell` as app_plan does: nothing where it is live and settled on all hosts.

    Arguments: `apps` as check_inventory returned them; `register`, the variable with each host's survey; `only`, one app; `release`, its id; `why`; `force`.
    """

    def do(self, args: Mapping[str, Any]) -> Mapping[str, object]:
        """Choose."""
        surveys = self.surveys(args["register"])
        apps = [app for app in args["apps"] if args["only"] in ("", app["name"])]
        if len(apps) != 1:
            known = ", ".join(app["name"] for app in args["apps"])
            raise ReleaseError(f"Say which app to roll back with -e app=NAME; the inventory has: {known}")
        [app] = apps
        release = target(app, rollback_target(app["name"], surveys, args["release"], force=args["force"]), self.hosts)
        release["places"] = places(app["name"], surveys, fleet(app["name"], self.variables))
        states = {host: survey["apps"][release["app"]] for host, survey in surveys.items()}
        Display().display(f"{release['app']}: roll back to {release['id']}")
        for line in together((host, f"{state['live']} -> {release['id']}") for host, state in states.items()):
            Display().display(f"  {line}")
        needed = any(
            state["live"] != release["id"] or not state["settled"] or state["leftovers"] for state in states.values()
        )
        run = self.planned(start("rollback", args["why"]), [release])
        return {
            "releases": [release] if needed else [],
            "travel": self.hosts if needed and not self.variables["ansible_check_mode"] else [],
            "tell": self.hosts if needed and is_wanted(self.variables) else [],
            "run": run,
        }
