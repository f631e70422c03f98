"""Finds the apps that the hosts of a run are behind with; contacts no host."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible.utils.display import Display

from praetor.run.away import to_catch_up
from praetor.run.on_controller import ControllerAction


class ActionModule(ControllerAction):
    """Returns `releases`: for each app that hosts of this run are behind with, the `release` of the hosts left out, one `host` that has it, and the `tags` of Pythons.

    Arguments: `register`, the variable with the survey of each host of this run; `others`, the surveys of hosts that it leaves out, as a loop returns them.
    """

    def do(self, args: Mapping[str, Any]) -> Mapping[str, object]:
        """Find."""
        found = to_catch_up(self.surveys(args["register"]), {each["item"]: each for each in args["others"]})
        for each in found:
            Display().display(
                f"{each['app']}: {', '.join(each['behind'])} behind: {each['host']} serves {each['release']}, and so will this run's hosts. "
                "What this tree holds is released by the next run."
            )
        return {"releases": found}
