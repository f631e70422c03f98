"""Compares what is on the hosts with what is wanted; contacts no host."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from praetor.run.away import left_out, refusal
from praetor.run.plan import describe_all, lease_s, needed, refusals


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core has no types
    """Returns `releases`: those that have to travel, with the hosts that migrate; and `uncertified`: whether a name lacks a certificate somewhere.

    Arguments: `releases` and `run` as app_build returned them; `register`, the variable with each host's survey; `force`.
    """

    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Plan for all hosts of the play; refuse what must not be done."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        variables, args = task_vars or {}, self._task.args
        hosts = list(variables["ansible_play_hosts_all"])
        surveys = {host: variables["hostvars"][host][args["register"]] for host in hosts}
        if refused_away := refusal(surveys, str(variables.get("ansible_limit", ""))):
            return {**result, "failed": True, "msg": refused_away}
        without = left_out(variables["groups"]["app_hosts"], hosts)
        wanted = [release for release in args["releases"] if needed(release, surveys)]
        dry = bool(variables["ansible_check_mode"])
        refused = [line for release in wanted for line in refusals(release, surveys, force=args["force"], planning=dry)]
        if refused:
            return {**result, "failed": True, "msg": "Nothing was changed.\n" + "\n".join(refused)}
        for release in wanted:
            release["migrate_hosts"] = hosts if release["commands"]["migrate_on"] == "each" else hosts[:1]
        if wanted or dry:
            Display().display(describe_all(args["releases"], surveys))
        return {
            **result,
            "changed": bool(wanted and dry),
            "releases": wanted,
            "uncertified": any(
                survey["apps"][each["app"]]["uncertified"] for each in wanted for survey in surveys.values()
            ),
            "run": {**args["run"], "lease_s": lease_s(wanted), "without": without},
        }
