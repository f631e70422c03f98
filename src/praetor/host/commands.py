"""A single command of an app: from the live release, as the app's user, in its slice and sandbox."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

from . import journal as journals
from .layout import AppHost, ReleaseError, read_text
from .output import run

if TYPE_CHECKING:
    from praetor.documents import Event

_DIRECTIVE = re.compile(r"^([A-Z][A-Za-z]+)=(.*)$", re.MULTILINE)


def work(*, app: str, command: list[str], timeout_s: float, by: str) -> dict[str, object]:
    """Run a command of an app, for at most `timeout_s`, on behalf of `by`; returns its `output` and exit `status`. The history keeps that it was run.

    Raises:
        ReleaseError: nothing is live here, or what is live cannot be asked.
    """
    host = AppHost(app)
    live = host.live()
    if live is None:
        raise ReleaseError(f"nothing of {host.app} is live on this host, so there is nothing to run a command of")
    place = host.release_dir(live.release)
    described = read_text(place / "units" / "command.service")
    if described is None:
        raise ReleaseError(
            f"{live.release} is from before there were such commands; release {host.app} again, then it can be run"
        )
    began = time.time()
    name = f"app-{host.app}-command-{time.time_ns()}"
    ended = run(started(described, name, str(place), command, timeout_s))
    took = round(time.time() - began, 1)
    result = "ok" if ended.ok else "failed"
    event: Event = {"action": "run", "to": live.release, "result": result, "by": by, "duration_s": took}
    journals.append(host, {**event, "why": " ".join(command)[:1000]})
    late = took >= timeout_s
    return {
        "changed": True,
        "release": live.release,
        "status": ended.status,
        "output": ended.said,
        "late": late,
    }


def started(described: str, name: str, place: str, command: list[str], timeout_s: float) -> list[str]:
    """What starts a command in a unit with the directives of a unit file, and waits for it."""
    directives = [f"--property={key}={value}" for key, value in _DIRECTIVE.findall(described)]
    limits = [f"--property=RuntimeMaxSec={timeout_s:.0f}", "--property=TimeoutStopSec=10"]
    program = [f"{place}/venv/bin/python", "-I", "-S", f"{place}/slot/praetor_slot/run.py", place, name]
    # systemd replaces variables in what it starts.
    words = [word.replace("$", "$$") for word in [*program, *command]]
    return [
        "systemd-run",
        "--quiet",
        "--pipe",
        "--wait",
        "--collect",
        f"--unit={name}",
        *directives,
        *limits,
        "--",
        *words,
    ]
