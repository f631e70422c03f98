"""Who started a run, and whether that process is still alive. Runs on the controller."""

from __future__ import annotations

import getpass
import os
import pathlib
import socket
import time
import uuid
from collections.abc import Callable

from praetor.documents import Action, Owner, PhaseAnswer, Run

_BOOT = pathlib.Path("/proc/sys/kernel/random/boot_id")


def start(action: Action, why: str) -> Run:
    """A new run: its id, what it is for, and its owner: the ansible-playbook process, whose worker calls this."""
    pid = os.getppid()
    owner: Owner = {
        "user": getpass.getuser(),
        "host": socket.gethostname(),
        "machine": _machine(),
        "namespace": _namespace(),
        "boot": _BOOT.read_text(encoding="ascii").strip(),
        "pid": pid,
        "started": process_start(pid),
    }
    run_id = f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{uuid.uuid4().hex[:6]}"
    return {"id": run_id, "owner": owner, "action": action, "why": why}


def start_of_playbook(action: Action, why: str) -> Run:
    """The run of the whole playbook: each of its tasks that asks gets the same one, and no other process ever does."""
    run = start(action, why)
    owner = run["owner"]
    return {**run, "id": f"{owner['boot'][:8]}-{owner['namespace']}-{owner['pid']}-{owner['started']}"}


def is_dead(owner: Owner) -> bool:
    """Whether the owner was a process of this controller and is gone; False for other controllers, whose processes cannot be seen from here."""
    if owner["machine"] != _machine():
        return False
    if owner["boot"] != _BOOT.read_text(encoding="ascii").strip():
        return True
    # Process ids mean nothing across containers.
    return bool(owner["namespace"] == _namespace() and process_start(owner["pid"]) != owner["started"])


def process_start(pid: int) -> str | None:
    """The start time of a process in clock ticks since boot, which tells it from a later one with its number; None when it is gone, proc(5)."""
    try:
        fields = (
            pathlib.Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        )
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] == "Z" else fields[19]


def until_locked(call: Callable[[str | None], PhaseAnswer], lock_wait: float) -> PhaseAnswer:
    """Begin a run on a host until it has the lock: a dead owner's lock is taken over at once; for a living owner's lock it waits.

    Args:
        call: does the phase and returns its answer, given the id of a run whose lock is to be taken over; `holder` in the answer is the journal of another run.
        lock_wait: seconds to wait at most.
    """
    deadline = time.monotonic() + lock_wait
    break_run: str | None = None
    while True:
        answer = call(break_run)
        holder = answer.get("holder")
        if holder and is_dead(holder["run"]["owner"]) and break_run != holder["run"]["id"]:
            break_run = holder["run"]["id"]
        elif holder and time.monotonic() < deadline:
            time.sleep(2)
        else:
            return answer


def _machine() -> str:
    """What tells controllers apart. Copied machines and containers share their machine-id, so the name counts too."""
    found = pathlib.Path("/etc/machine-id")
    return f"{found.read_text(encoding='ascii').strip() if found.is_file() else ''}/{socket.gethostname()}"


def _namespace() -> str:
    return str(pathlib.Path("/proc/self/ns/pid").readlink())
