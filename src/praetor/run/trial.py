"""Logs in over a new connection, to see whether a change has cut the way. Runs on the controller."""

from __future__ import annotations

import subprocess
import time
from typing import Any

_LOGIN_S = 8


def login(connection: Any, *, until: float) -> str:
    """Log in over a new connection; returns why that was not possible in time, or nothing."""
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
