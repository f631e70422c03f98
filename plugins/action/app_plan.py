"""Compares what is on the hosts with what is wanted; contacts no host."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ansible.utils.display import Display

from praetor.host.layout import ReleaseError
from praetor.run.away import gone
from praetor.run.notices import is_wanted
from praetor.run.on_controller import ControllerAction
from praetor.run.places import fleet, places
from praetor.run.plan import announced, describe_all, needed, refusals

if TYPE_CHECKING:
    from praetor.documents import Release


class ActionModule(ControllerAction):
    """Returns `releases`, those that have to travel, and for the plays that follow `travel`, the hosts that they go to.

    `follow` is the same if there are several, `tell` if the inventory says who is told, or which hooks run. `certify` is the same if a name lacks a certificate, `announce` if balancers must know of it. They are empty where there is nothing to do, and in check mode: plays without hosts cost nothing. `migrates` has by app the hosts that migrate.

    Arguments: `releases` and `run` as app_build returned them; `register`, the variable with each host's survey; `force`.
    """

    def do(self, args: Mapping[str, Any]) -> Mapping[str, object]:
        """Plan for all hosts of the play; refuse what must not be done."""
        surveys = self.surveys(args["register"])
        for release in args["releases"]:
            release["places"] = places(release["app"], surveys, fleet(release["app"], self.variables))
        wanted: list[Release] = [release for release in args["releases"] if needed(release, surveys)]
        dry = bool(self.variables["ansible_check_mode"])
        asked = {
            "force": args["force"],
            "planning": dry,
            "balanced": bool(self.variables["groups"].get("balancer_hosts")),
        }
        refused = [line for release in wanted for line in refusals(release, surveys, **asked)]
        if refused:
            raise ReleaseError("\n".join(["Nothing was changed.", *refused]))
        if wanted or dry:
            Display().display(describe_all(args["releases"], surveys))
        left = [gone(each["app"], surveys, self.variables["groups"]["app_hosts"]) for each in wanted]
        bare = any(survey["apps"][each["app"]]["uncertified"] for each in wanted for survey in surveys.values())
        return {
            "changed": bool(wanted and dry),
            "warnings": [said for said in left if said],
            "releases": wanted,
            "travel": self.hosts if wanted and not dry else [],
            "follow": self.hosts if len(wanted) > 1 and not dry else [],
            "tell": self.hosts if wanted and is_wanted(self.variables) else [],
            "certify": self.hosts if bare and not dry else [],
            "announce": self.hosts if not dry and any(announced(each, surveys) for each in wanted) else [],
            "migrates": {each["app"]: each["migrate_hosts"] if each["commands"]["migrate"] else [] for each in wanted},
            "run": self.planned(args["run"], wanted),
        }
