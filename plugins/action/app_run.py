"""Runs a single command of an app on a host, and shows what it prints."""

from __future__ import annotations

import getpass
import shlex
import socket
from typing import Any

from ansible.utils.display import Display

from praetor.run.on_host import HostAction


class ActionModule(HostAction):
    """Arguments: `app`, `command` as one string, `timeout_s`."""

    _supports_check_mode = False
    WORK = "commands"
    ARGUMENTS = {  # noqa: RUF012  read only
        "app": {"type": "str", "required": True},
        "command": {"type": "str", "required": True},
        "timeout_s": {"type": "float", "default": 600},
    }

    def do(self, args: dict[str, Any]) -> dict[str, Any]:
        """Run it, and show what it has printed."""
        try:
            words = shlex.split(args["command"])
        except ValueError as error:
            return {"failed": True, "msg": f"-e command={args['command']}: {error}; nothing was run"}
        if not words:
            return {"failed": True, "msg": "-e command=...: expected a command of the app; nothing was run"}
        answer = super().do({**args, "command": words, "by": f"{getpass.getuser()}@{socket.gethostname()}"})
        if "output" not in answer:
            return answer
        printed = str(answer.pop("output")).rstrip("\n")
        Display().display(f"\n{self.host}, {answer['release']}:\n{printed}\n")
        if answer["status"] == 0:
            return answer
        ended = (
            f"was ended after {args['timeout_s']:.0f} s" if answer["late"] else f"ended with status {answer['status']}"
        )
        return {**answer, "failed": True, "msg": f"'{args['command']}' {ended} on {self.host}"}
