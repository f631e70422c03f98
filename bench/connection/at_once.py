"""A connection to a host that is not there and answers at once: what is left is what a run costs the controller itself, without ssh."""

from __future__ import annotations

import json
import os
import re
import time
from pathlib import Path
from typing import Any

from ansible.plugins.connection import ConnectionBase

DOCUMENTATION = """
name: at_once
short_description: Hosts that answer at once
description: For bench/growth.py. Knows what app_survey and app_phase ask, and nothing else.
"""

# How a host is on which everything is to be done, and everything goes well.
STATE: dict[str, Any] = {
    "provisioned": True,
    "python": "cp311",
    "live": "0-00000000",
    "slot": "sample.0-00000000.1",
    "since": "2026-01-01T00:00:00Z",
    "running": True,
    "outdated": [],
    "refused": [],
    "releases": ["0-00000000", "0-11111111"],
    "bad": {},
    "before": "0-11111111",
    "frozen": None,
    "leftovers": [],
    "journal": None,
    "settled": True,
    "made_live_by": "20260101T000000Z-000000",
    "made_live_on": [],
    "site": True,
    "nginx_waits_s": 3600,
    "manifest": None,
    "uncertified": False,
    "staged": False,
    "missing": [],
    "needed": True,
    "share": {},
    "processes": [],
    "jobs": [],
    "history": [],
    "server_name": "sample.example.org",
    "path": "/",
    "health": "healthy",
    "workers": 2,
    "busy": 0,
    "requests": 0,
}
ANSWERS: dict[str, dict[str, Any]] = {
    "lock": {"repaired": []},
    "stage": {"staged": True, "repaired": []},
    "migrate": {"output": []},
    "gate": {"slot": "sample.1-11111111.2", "repaired": []},
    "flip": {"bake": {"flipped": True}},
    "settle": {"done": [], "live": "1-11111111"},
}


# What differs on a host that was away when the last release was made.
BEHIND = {"live": "0-11111111", "slot": "sample.0-11111111.1", "made_live_by": "20251201T000000Z-000000"}


def answer(asked: dict[str, Any], host: str) -> dict[str, Any]:
    """What `praetor.host` would answer."""
    params = asked["params"]
    if asked["work"] == "survey":
        needed = os.environ.get("AT_ONCE_NEEDED", "1") == "1"
        state = STATE | (BEHIND if host in os.environ.get("AT_ONCE_BEHIND", "").split() else {})
        apps = {app: {**state, "app": app, "needed": needed} for app in params["apps"]}
        return {"apps": apps, "others": [], "python": "cp311", "drained": None}
    return {"changed": True, **ANSWERS[what(asked)]}


def what(asked: dict[str, Any]) -> str:
    """Which phase is asked for, or another work."""
    params = asked["params"]
    # Before they were one argument, phases were one argument each.
    phase = params.get("phase") or next((name for name in ANSWERS if params.get(name) is not None), None)
    return str(phase or asked["work"])


class Connection(ConnectionBase):  # type: ignore[misc]  # ansible-core has no types
    """Answers what is asked, and notes it in the file that AT_ONCE_CALLS names; refuses what AT_ONCE_REFUSES says, such as `lock h1`.

    Hosts that AT_ONCE_BEHIND names, with spaces between, are behind the others. AT_ONCE_SLOW, such as `stage h1 6`, makes one take seconds for that.
    """

    transport = "at_once"
    has_pipelining = True

    def _connect(self) -> Connection:
        return self

    def exec_command(self, cmd: str, in_data: bytes | None = None, sudoable: bool = True) -> tuple[int, bytes, bytes]:  # noqa: FBT001, FBT002  Ansible's signature
        """Answer."""
        super().exec_command(cmd, in_data=in_data, sudoable=sudoable)
        asked = json.loads(in_data) if in_data else {}
        call = f"{what(asked) if asked else 'command'} {self._play_context.remote_addr}"
        if path := os.environ.get("AT_ONCE_CALLS"):
            with Path(path).open("a", encoding="utf-8") as calls:
                calls.write(f"{call}\n")
        slow, _, seconds = os.environ.get("AT_ONCE_SLOW", "").rpartition(" ")
        if call == slow:
            time.sleep(float(seconds))
        if not asked:
            return 0, b"", b""
        said = (
            {"reason": "refused"}
            if call == os.environ.get("AT_ONCE_REFUSES")
            else answer(asked, str(self._play_context.remote_addr))
        )
        become = re.search(r"BECOME-SUCCESS-\w+", cmd)
        return 0, f"{become[0] if become else ''}\n{json.dumps(said)}\n".encode(), b""

    def put_file(self, in_path: str, out_path: str) -> None:
        """Take a file."""

    def fetch_file(self, in_path: str, out_path: str) -> None:
        """Give a file."""

    def close(self) -> None:
        """End."""
