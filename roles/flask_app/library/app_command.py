#!/usr/bin/python
"""Run an app's own commands, as its migrations, from a staged release."""

from __future__ import annotations

from typing import Any

from ansible.module_utils.praetor import call
from ansible.module_utils.praetor import journal as journals
from ansible.module_utils.praetor.host import AppHost, ReleaseError
from ansible.module_utils.praetor.stage import run_command

KEPT = 65536  # characters of a command's output that the history keeps


def work(params: dict[str, Any]) -> dict[str, Any]:
    """Run the commands in order; output and result are kept in the app's history."""
    host = AppHost(params["app"])
    printed: list[str] = []
    with journals.phase(host, params["run"], params["purpose"]):
        entry = {"action": params["purpose"], "to": params["release"], "run": params["run"]["id"]}
        try:
            for command in params["commands"]:
                printed.append(run_command(host, params["release"], command, params["timeout_s"]))
        except ReleaseError as error:
            journals.append(host, {**entry, "result": "failed", "output": f"{''.join(printed)}{error}"[-KEPT:]})
            raise
        journals.append(host, {**entry, "result": "ok", "output": "".join(printed)[-KEPT:]})
    return {"changed": True, "output": printed}


def main() -> None:
    """Describe the arguments."""
    call.run(
        {
            "app": {"type": "str", "required": True},
            "run": call.RUN,
            "release": {"type": "str", "required": True},
            "purpose": {"type": "str", "required": True},
            "commands": {"type": "list", "elements": "list", "required": True},
            "timeout_s": {"type": "float", "default": 600},
        },
        work,
    )


if __name__ == "__main__":
    main()
