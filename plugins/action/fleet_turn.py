"""Takes the turn of this run to take hosts out of the fleet, or leaves it to others."""

from __future__ import annotations

from typing import Any, cast, get_args

from praetor.documents import Action, PhaseAnswer
from praetor.run.on_host import HostAction
from praetor.run.owner import start_of_playbook, until_locked

LEASE_S = 1800  # renewed before and after each host: longer than its updates, its reboot and all waits for it


class ActionModule(HostAction):
    """Arguments: `wanted`, take or leave; `action`, what the run is for; `phase`, what it is at; `lock_wait`, seconds to wait for another run.

    The turn of a dead run is taken over.
    """

    _supports_check_mode = False
    WORK = "turn"
    ARGUMENTS = {  # noqa: RUF012  read only
        "wanted": {"type": "str", "choices": ["take", "leave"], "required": True},
        "action": {"type": "str", "choices": list(get_args(Action)), "required": True},
        "phase": {"type": "str", "default": ""},
        "why": {"type": "str", "default": ""},
        "lock_wait": {"type": "float", "default": 0},
    }

    def do(self, args: dict[str, Any]) -> dict[str, Any]:
        """Ask until it is this run's turn."""
        run = {**start_of_playbook(args["action"], args["why"]), "lease_s": LEASE_S}

        def ask(break_run: str | None) -> PhaseAnswer:
            params = {"wanted": args["wanted"], "run": run, "phase": args["phase"], "break_run": break_run}
            return cast("PhaseAnswer", self.on_host(params))

        answer = until_locked(ask, args["lock_wait"])
        reason = answer.get("reason") or (answer.get("msg") if answer.get("failed") else None)
        return {**answer, "failed": True, "msg": reason} if reason else {**answer}
