"""Finds the apps that the hosts of a run are behind with; contacts no host."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from praetor.run.away import refusal, to_catch_up


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core has no types
    """Returns `releases`: for each app that hosts of this run are behind with, the `release` of the hosts left out, one `host` that has it, and the `tags` of Pythons.

    Arguments: `register`, the variable with the survey of each host of this run; `others`, the surveys of hosts that it leaves out, as a loop returns them.
    """

    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Find."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        variables, args = task_vars or {}, self._task.args
        surveys = {host: variables["hostvars"][host][args["register"]] for host in variables["ansible_play_hosts_all"]}
        if refused := refusal(surveys, str(variables.get("ansible_limit", ""))):
            return {**result, "failed": True, "msg": refused}
        found = to_catch_up(surveys, {each["item"]: each for each in args["others"]})
        for each in found:
            Display().display(
                f"{each['app']}: {', '.join(each['behind'])} behind: {each['host']} serves {each['release']}, and so will this run's hosts. "
                "What this tree holds is released by the next run."
            )
        return {**result, "changed": False, "releases": found}
