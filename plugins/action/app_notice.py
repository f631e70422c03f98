"""Tells whom the inventory's `release_notify` names what a run does, and runs its `release_hooks`; contacts no host."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase

from praetor.run.notices import Event, event_of, given, run_hooks, tell


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core has no types
    """Arguments: `event`, one of start, success, failure; `run`; `release`, as the plan has it; `register`, the variable with each host's survey.

    And `apps` and `root` of the inventory, for the commits; `failure`, see app_failure.

    A hook that fails before something begins fails the task. Whatever fails later is a warning.
    """

    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Tell, and run."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        variables, args = task_vars or {}, self._task.args
        notices = given(self._templar.template, variables)
        if notices is None:
            return {**result, "skipped": True, "skip_reason": "nobody wants to know"}
        event = event_of(args, variables)
        root = Path(args["root"])
        hook = _hook(event)
        commands = getattr(notices.release_hooks, hook, [])
        if not commands and not notices.release_notify:
            return {**result, "skipped": True, "skip_reason": "nobody wants to know"}
        begins = hook.startswith("before_")
        problem = run_hooks(hook, commands, event, root) if begins else ""
        if problem:
            event |= {"event": "failure", "reason": problem.partition("\n")[0]}
        told = tell(notices.release_notify, event, root)
        if not begins:
            problem = run_hooks(hook, commands, event, root)
            told += [f"{problem}. The run goes on."] if problem else []
            problem = ""
        result = {**result, "changed": False, "warnings": told}
        if problem:
            first, _, more = problem.partition("\n")
            return {**result, "failed": True, "msg": f"{first}. No host was changed.\n{more}".strip()}
        return result


def _hook(event: Event) -> str:
    """The hook that belongs to an event."""
    match event["event"]:
        case "start":
            return f"before_{event['action']}"
        case "failure":
            return "failure"
        case _:
            return f"after_{event['action']}"
