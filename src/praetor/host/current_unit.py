"""A systemd unit that is enabled, runs, and runs with the files as they are now.

Does the work of a handler without its gap: a run that is interrupted after it wrote a file never notifies again; the next one sees here that the
service does not know the file yet.
"""

from __future__ import annotations

import os
import socket
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .layout import ReleaseError

_PROPERTIES = "LoadState,UnitFileState,ActiveState,ActiveEnterTimestamp,StateChangeTimestamp"
_SETTLED_S = 0.7
# How long HAProxy's new worker may take to load certificates and lists.
_LOADED_S = 30


def work(
    *,
    check: bool,
    name: str,
    restart_on: list[str] = [],  # noqa: B006  read only
    reload_on: list[str] = [],  # noqa: B006
    retries: bool = False,
    haproxy_master: str | None = None,
    only_if: str = "",
    otherwise: str = "",
) -> dict[str, Any]:
    """Enable and start the unit `name`; restart or reload it when one of `restart_on` or `reload_on` is younger than its last start or reload.

    `*` stands for any name in these. With `retries` the unit may be waiting for its next start, because it ends while another host is away.
    `haproxy_master` is the socket of HAProxy's master process, for a unit that runs it: a reload that could load nothing reports success to systemd and
    leaves the old worker at work, so the age of the worker counts, and the master is asked after each reload. In a dry run (`check`) a unit that is not
    there yet is a change, not an error.

    Where the host does not meet `only_if`, a condition as units have it, the unit is left alone, and `otherwise` is a warning.

    Returns:
        `actions`: what was done, in order: enable, start, restart, reload.

    Raises:
        ReleaseError: the unit does not stay up; with the end of the journal.
    """
    if only_if and not _holds(only_if):
        return {"changed": False, "actions": [], "warnings": [otherwise]}
    loaded = _started(_ask_haproxy(haproxy_master)) if haproxy_master else None
    changed = _changed_at(restart_on), _changed_at(reload_on)
    actions = decide(_show(name), *changed, retries=retries, loaded=loaded)
    if actions and not check:
        error = _apply(name, actions, retries=retries, master=haproxy_master)
        if error:
            raise ReleaseError(error)
    return {"changed": bool(actions), "actions": actions}


def parse_show(text: str) -> dict[str, str]:
    """Read the lines of ``systemctl show``."""
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


def parse_time(text: str) -> float:
    """Read a time as ``--timestamp=us+utc`` writes it; 0 for a time that never was."""
    if not text or text == "n/a":
        return 0.0
    return datetime.strptime(text, "%a %Y-%m-%d %H:%M:%S.%f %Z").replace(tzinfo=UTC).timestamp()


def up(*, retries: bool) -> set[str]:
    """Name the states in which a unit does its work; waiting for its next start is one, if it may."""
    return {"active", "reloading"} | ({"activating"} if retries else set())


def haproxy_workers(text: str) -> list[int]:
    """Read the pids of the workers that take connections from what HAProxy's master says to ``show proc``."""
    _, _, after = text.partition("# workers")
    lines, _, _ = after.partition("# old workers")
    return [int(line.split()[0]) for line in lines.splitlines() if line.split()[1:2] == ["worker"]]


def _ask_haproxy(master: str) -> list[int]:
    """Return the pids of the workers; none where the master does not answer."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(5)
            connection.connect(master)
            connection.sendall(b"show proc\n")
            connection.shutdown(socket.SHUT_WR)  # or the master waits for more
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
    except OSError:
        return []
    return haproxy_workers(answer.decode(errors="replace"))


def _started(pids: list[int]) -> float:
    """Return when the youngest of some processes started, in seconds since the epoch; 0 where there is none."""
    ticks = os.sysconf("SC_CLK_TCK")
    ages = []
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ages.append(float(Path("/proc/uptime").read_text().split()[0]) - int(fields[19]) / ticks)
        except OSError:
            continue
    return time.time() - min(ages) if ages else 0.0


def _await_worker(master: str, before: list[int]) -> bool:
    """Wait until HAProxy has another worker than before a reload."""
    deadline = time.monotonic() + _LOADED_S
    while time.monotonic() < deadline:
        now = _ask_haproxy(master)
        if now and not set(now) & set(before):
            return True
        time.sleep(0.1)
    return False


def decide(
    shown: dict[str, str],
    restart_on: list[float],
    reload_on: list[float],
    *,
    retries: bool = False,
    loaded: float | None = None,
) -> list[str]:
    """Name what must be done to a unit, given what systemd says about it and the times at which its files were changed.

    `loaded` is when it read its files last, where the unit can tell that better than systemd.
    """
    actions = ["enable"] if shown.get("UnitFileState") in {"disabled", ""} else []
    started = parse_time(shown.get("ActiveEnterTimestamp", ""))
    # A reload changes the state twice, and the start before it once.
    if loaded is None:
        loaded = parse_time(shown.get("StateChangeTimestamp", ""))
    if shown.get("ActiveState") not in up(retries=retries):
        actions.append("start")
    elif max(restart_on, default=0.0) > started:
        actions.append("restart")
    elif max(reload_on, default=0.0) > loaded:
        actions.append("reload")
    return actions


def _systemctl(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {"LC_ALL": "C", "PATH": "/usr/bin:/bin"}
    return subprocess.run(["systemctl", *arguments], capture_output=True, text=True, check=False, env=environment)


def _holds(condition: str) -> bool:
    done = subprocess.run(["systemd-analyze", "condition", condition], capture_output=True, text=True, check=False)
    if done.returncode not in {0, 1}:
        raise ReleaseError(f"systemd-analyze condition {condition}: {done.stderr.strip()}")
    return done.returncode == 0


def _show(unit: str) -> dict[str, str]:
    return parse_show(_systemctl("show", "--timestamp=us+utc", f"--property={_PROPERTIES}", unit).stdout)


def _changed_at(files: list[str]) -> list[float]:
    """Return when files were changed; one that is dated ahead, by a clock that was wrong, would be younger than every start."""
    times = [path.stat().st_mtime for pattern in files for path in Path("/").glob(pattern.lstrip("/"))]
    return [0.0 if changed > time.time() else changed for changed in times]


def _journal(unit: str) -> str:
    command = ["journalctl", "--no-pager", "--quiet", "--lines=15", "--output=cat", f"--unit={unit}"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def _apply(unit: str, actions: list[str], *, retries: bool, master: str | None = None) -> str:
    """Do what was decided; an empty string, or what went wrong."""
    if actions != ["reload"]:
        # Always: systemd 252 says NeedDaemonReload=no of a drop-in in a directory that is new.
        _systemctl("daemon-reload")
        state = _show(unit)["LoadState"]
        if state != "loaded":
            return f"there is no {unit} that could be loaded: {state}"
    before = _ask_haproxy(master) if master else []
    for action in actions:
        done = _systemctl(action, unit)
        if done.returncode:
            return f"systemctl {action} {unit}: {done.stderr.strip()}\n{_journal(unit)}"
    if master and "reload" in actions and not _await_worker(master, before):
        return f"{unit} was reloaded and loaded nothing; it goes on with what it had before:\n{_journal(unit)}"
    if {"start", "restart"} & set(actions):
        # A simple service is "active" as soon as it is forked, whatever becomes of it.
        time.sleep(_SETTLED_S)
        state = _show(unit)["ActiveState"]
        if state not in up(retries=retries):
            return f"{unit} does not stay up, it is {state}:\n{_journal(unit)}"
    return ""
