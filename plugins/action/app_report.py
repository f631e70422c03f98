"""The report of a failed run: what happened, what still serves, what to type. Contacts no host."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core has no types
    """Fails on every host; the first one tells the whole story, once.

    Arguments: `action`, `app` and `release` of the run; `failure`, see app_failure; `register`, the variable with each host's undoing.
    """

    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Tell."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        variables, args = task_vars or {}, self._task.args
        hosts = list(variables["ansible_play_hosts_all"])
        if variables["inventory_hostname"] != hosts[0]:
            return {**result, "failed": True, "msg": f"not released; see {hosts[0]}"}
        failure = args["failure"]
        lines = [f"{', '.join(hosts)}: {problem}" for problem, hosts in _grouped(failure["problems"]).items()]
        lines.append("")
        for host in hosts:
            undone = variables["hostvars"][host].get(args["register"]) or {}
            if undone.get("problem"):
                lines.append(f"{host}: {undone['problem']}")
            elif "live" in undone:
                lines.append(f"{host}: serving {undone['live'] or 'nothing (no release was live before)'}")
            else:
                lines.append(f"{host}: not known, it does not answer; the next run repairs it")
        lines += [
            "",
            f"See all hosts: ansible-playbook playbooks/status.yml -i {_inventory(variables)}. Fix the cause and run the same command again.",
        ]
        headline = (
            f"{args['app']} {args['release']}: {failure['what']}; the {args['action']} has ended, and no host serves it"
        )
        Display().display("\n" + "\n".join([headline, *lines]) + "\n", color="red")
        return {**result, "failed": True, "msg": headline}


def _grouped(problems: dict[str, str]) -> dict[str, list[str]]:
    """Hosts by problem: what all of them say is said once. The release's own paths are the same on all."""
    found: dict[str, list[str]] = {}
    for host, problem in problems.items():
        found.setdefault(problem, []).append(host)
    return found


def _inventory(variables: dict[str, Any]) -> str:
    sources = variables.get("ansible_inventory_sources") or ["INVENTORY"]
    return str(sources[0])
