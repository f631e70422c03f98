"""The report of a failed run: what happened, what still serves, what to type. Contacts no host."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible.utils.display import Display

from praetor.run.on_controller import ControllerAction
from praetor.run.story import shown

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
        lines = [f"{', '.join(hosts)}: {reason}" for reason, hosts in _grouped(failure["reasons"]).items()]
        lines.append("")
        answers: dict[str, PhaseAnswer] = self.registered(args["register"])
        for host, undone in answers.items():
            if undone.get("reason"):
                lines.append(f"{host}: {undone['reason']}")
            elif "live" in undone:
                lines.append(f"{host}: serving {undone['live'] or 'nothing (no release was live before)'}")
            else:
                lines.append(f"{host}: not known, it does not answer; the next run repairs it")
        lines += [
            "",
            f"See all hosts: ansible-playbook playbooks/status.yml -i {_inventory(self.variables)}. Fix the cause and run the same command again.",
        ]
        headline = (
            f"{args['app']} {args['release']}: {failure['what']}; the {args['action']} has ended, and no host serves it"
        )
        Display().display("\n" + "\n".join([headline, *lines]) + "\n", color="red")
        return {"failed": True, "msg": headline}


def _grouped(reasons: dict[str, str]) -> dict[str, list[str]]:
    """Hosts by reason: what all of them say is said once. The release's own paths are the same on all."""
    found: dict[str, list[str]] = {}
    for host, reason in reasons.items():
        found.setdefault(reason, []).append(host)
    return found


def _inventory(variables: Mapping[str, Any]) -> str:
    sources = variables.get("ansible_inventory_sources") or ["INVENTORY"]
    return shown(Path(str(sources[0])))
