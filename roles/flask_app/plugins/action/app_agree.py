"""Decides for the whole fleet whether a run goes on; contacts no host."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core has no types
    """Fails on every host as soon as one host could not do a phase, so that all of them go the same way. Says what was repaired.

    Arguments: `phase`, its name; `register`, the variable that its task registered; `hosts`, those that took part.
    """

    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Look at the results of all hosts that took part."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        variables = task_vars or {}
        problems, repaired, bad = {}, [], False
        for host in self._task.args["hosts"]:
            seen = variables["hostvars"][host].get(self._task.args["register"]) or {}
            repaired += [f"{host}: {sentence}" for sentence in seen.get("repaired") or []]
            problem = _problem(seen)
            bad = bad or bool(seen.get("bad"))
            if problem:
                problems[host] = problem
        if repaired and variables["inventory_hostname"] == variables["ansible_play_hosts_all"][0]:
            Display().display("\n".join(repaired), color="yellow")
        if not problems:
            return {**result, "changed": False}
        phase, here = self._task.args["phase"], variables["inventory_hostname"]
        told = f"{phase} failed on {', '.join(problems)}"
        # Ansible shows a message on every host, and twice; the whole story is told once, by app_report. Keys of this prefix are not shown.
        story = {
            "phase": phase,
            "problems": problems,
            "here": problems.get(here, f"stopped, because {told}"),
            "bad": bad,  # the release failed under traffic: not only where that was seen
        }
        return {**result, "failed": True, "msg": told, "_ansible_story": story}


def _problem(seen: dict[str, Any]) -> str | None:
    if seen.get("unreachable"):
        return f"the host did not answer ({str(seen.get('msg', '')).strip()[:300]})"
    if seen.get("problem"):
        return str(seen["problem"])
    if seen.get("failed"):
        return str(seen.get("msg") or seen.get("module_stderr") or seen)[:4000]
    if not seen:
        return "no result: the host dropped out of the run"
    return None
