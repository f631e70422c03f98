"""Gathers why a run failed, from the hosts where it failed; contacts no host."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core has no types
    """Returns, in the rescue of a block of phases: `what` failed, `problems` by host, whether the release is `bad`, and `here`, why it ended on this host."""

    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Look at the results of all hosts."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        variables = task_vars or {}
        told = {
            host: _story(variables["hostvars"][host]["ansible_failed_result"])
            for host in variables["ansible_play_hosts_all"]
            if "ansible_failed_result" in variables["hostvars"][host]
        }
        phase = next((story["phase"] for story in told.values()), "")
        problems = {host: story["problem"] for host, story in told.items()}
        what = f"{phase} failed on {', '.join(problems)}" if problems else "a host dropped out of the run"
        here = problems.get(variables["inventory_hostname"], f"stopped, because {what}")
        # The release failed under traffic: not only where that was seen.
        bad = any(story["bad"] for story in told.values())
        return {**result, "what": what, "problems": problems, "bad": bad, "here": here}


def _story(failed: Mapping[str, Any]) -> Mapping[str, Any]:
    """What app_phase told; of any other failure what Ansible says."""
    return failed.get("_ansible_story") or {
        "phase": "an unexpected place",
        "problem": str(failed.get("msg")),
        "bad": False,
    }
