"""The report of a failed run: what happened, what still serves, what to type. Contacts no host."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible.utils.display import Display

from praetor.run.on_controller import ControllerAction
from praetor.run.story import shown, together

if TYPE_CHECKING:
    from praetor.documents import Failure, PhaseAnswer


class ActionModule(ControllerAction):
    """Fails on every host; the first one tells the whole story, once.

    Arguments: `action`, `app` and `release` of the run; `failure`, see app_failure; `register`, the variable with each host's undoing.
    """

    def do(self, args: Mapping[str, Any]) -> Mapping[str, object]:
        """Tell."""
        first = self.hosts[0]
        if self.variables["inventory_hostname"] != first:
            return {"failed": True, "msg": f"not released; see {first}"}
        failure: Failure = args["failure"]
        # The release's own paths are the same on all hosts, so what they say is.
        lines = [*together(failure["reasons"].items()), ""]
        answers: dict[str, PhaseAnswer] = self.registered(args["register"])
        lines += [
            *together((host, _serves(undone)) for host, undone in answers.items()),
            "",
            f"See all hosts: ansible-playbook playbooks/status.yml -i {_inventory(self.variables)}. Fix the cause and run the same command again.",
        ]
        headline = (
            f"{args['app']} {args['release']}: {failure['what']}; the {args['action']} has ended, and no host serves it"
        )
        Display().display("\n" + "\n".join([headline, *lines]) + "\n", color="red")
        return {"failed": True, "msg": headline}


def _serves(undone: PhaseAnswer) -> str:
    """What a host serves after the undoing."""
    if reason := undone.get("reason"):
        return reason
    if "live" in undone:
        return f"serving {undone['live'] or 'nothing (no release was live before)'}"
    return "not known, it does not answer; the next run repairs it"


def _inventory(variables: Mapping[str, Any]) -> str:
    sources = variables.get("ansible_inventory_sources") or ["INVENTORY"]
    return shown(Path(str(sources[0])))
