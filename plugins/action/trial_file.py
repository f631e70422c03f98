"""Confirms a change that could cut the connection, by a login that does not use the connection that made it."""

from __future__ import annotations

import subprocess
import time
from typing import Any

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.action import ActionBase

_LOGIN_S = 8


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core has no types
    """Runs the module of the same name, logs in over a new connection, and runs it once more to confirm."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Apply, log in, confirm."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        args = {**self._task.args, "step": "apply"}
        began = time.monotonic()
        # If even the existing connection is cut, the answer never comes: then too, a new login decides.
        try:
            answer = self._execute_module(module_args=args, task_vars=task_vars)
        except AnsibleConnectionFailure:
            answer = {"changed": True, "undone_after_s": int(args.get("undo_s", 40))}
        if answer.get("failed") or not answer.get("changed") or self._task.check_mode:
            return {**result, **answer}
        undone_at = began + float(answer["undone_after_s"])
        said = self._login(until=undone_at - 2)
        if not said:
            confirmed = self._execute_module(module_args={**args, "step": "confirm"}, task_vars=task_vars)
            return {**result, **answer, **({} if not confirmed.get("failed") else confirmed)}
        back = self._login(until=undone_at + 60)
        state = "still does not answer" if back else f"answers again after {time.monotonic() - began:.0f} s"
        return {
            **result,
            "changed": False,
            "failed": True,
            "msg": f"no new connection was possible with {args['dest']} in effect ({said}). The host undoes it by itself and {state}.",
        }

    def _login(self, *, until: float) -> str:
        """Log in over a new connection; returns why that was not possible in time, or nothing."""
        connection = self._connection
        if connection.transport != "ssh":
            return ""
        built = connection._build_command(connection.get_option("ssh_executable"), "ssh")  # noqa: SLF001  it alone knows all options
        # ssh keeps the first value of an option: these are ours, whatever follows.
        alone = ["-oControlMaster=no", "-oControlPath=none", "-oBatchMode=yes", f"-oConnectTimeout={_LOGIN_S}"]
        command = [built[0].decode(), *alone, *(word.decode() for word in built[1:]), connection.host, "true"]
        while True:
            try:
                done = subprocess.run(
                    command, capture_output=True, text=True, check=False, timeout=2 * _LOGIN_S, stdin=subprocess.DEVNULL
                )
            except subprocess.TimeoutExpired:
                said = "the login hangs"
            else:
                if done.returncode == 0:
                    return ""
                said = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
            if time.monotonic() > until:
                return said
            time.sleep(1)
