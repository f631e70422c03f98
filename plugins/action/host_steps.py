"""Does several works on a host in one call."""

from __future__ import annotations

import time
from typing import Any

from ansible.errors import AnsibleConnectionFailure

from praetor.host.steps import Step
from praetor.run import steps, trial
from praetor.run.on_host import HostAction


class ActionModule(HostAction):
    """Argument `steps`: works in order, each with the arguments of its `work` in `praetor.host`, see `praetor.run.steps`.

    A step that takes effect on trial (`trial_file`) is confirmed by a new login before the next one begins.
    """

    _supports_check_mode = True
    WORK = "steps"
    ARGUMENTS = {"steps": {"type": "list", "elements": "dict", "required": True}}  # noqa: RUF012  read only

    def do(self, args: dict[str, Any]) -> dict[str, Any]:
        """Do the steps, or find out what would be done."""
        left = steps.read(args["steps"])
        told: dict[str, Any] = {"changed": False, "done": [], "diff": []}
        while left:
            began = time.monotonic()
            answer = self._answer(left)
            told["changed"] |= answer.get("changed", False)
            for key in ("done", "diff"):
                told[key] += answer.get(key, [])
            if why := answer.get("reason") or answer.get("msg"):
                return {**told, "failed": True, "msg": why}
            count = len(answer["done"])
            last, left = left[count - 1], left[count:]
            undone_after_s = answer["done"][-1].get("undone_after_s")
            if undone_after_s and not self._task.check_mode and (why := self._confirm(last, began + undone_after_s)):
                return {**told, "failed": True, "msg": why}
        return {**told, "warnings": self._warnings(told["done"])}

    def _answer(self, left: list[Step]) -> dict[str, Any]:
        """What the host says of the steps up to the next trial."""
        trials = [place for place, step in enumerate(left) if step["work"] == "trial_file"]
        try:
            return self.on_host({"check": self._task.check_mode, "steps": left})
        except AnsibleConnectionFailure:
            if not trials or self._task.check_mode:
                raise
            # If even the existing connection is cut, the answer never comes: then too, a new login decides.
            tried = left[: trials[0] + 1]
            done = [{"work": step["work"], "changed": True} for step in tried]
            done[-1]["undone_after_s"] = tried[-1]["params"]["undo_s"]
            return {"changed": True, "done": done}

    def _confirm(self, step: Step, undone_at: float) -> str:
        """Log in and confirm what is on trial; returns why it was undone, or nothing."""
        began = time.monotonic()
        said = trial.login(self._connection, until=undone_at - 2)
        if not said:
            confirm: Step = {**step, "params": {**step["params"], "confirm": True}}
            answer = self.on_host({"check": False, "steps": [confirm]})
            return str(answer.get("reason") or answer.get("msg") or "")
        back = trial.login(self._connection, until=undone_at + 60)
        state = "still does not answer" if back else f"answers again after {time.monotonic() - began:.0f} s"
        dest = step["params"]["dest"]
        return (
            f"no new connection was possible with {dest} in effect ({said}). The host undoes it by itself and {state}."
        )

    def _warnings(self, done: list[dict[str, Any]]) -> list[str]:
        """What the steps warn of, and what a dry run could not judge."""
        found = [f"{self.host}: {text}" for each in done for text in each.get("warnings", [])]
        packages = dict.fromkeys(each["unjudged"] for each in done if "unjudged" in each)
        return found + [
            f"{self.host}: {name} is not installed, so a dry run cannot say what changes with it" for name in packages
        ]
