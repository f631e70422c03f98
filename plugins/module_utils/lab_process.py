"""Long-lived processes of a lab: each in its own session and control group, found again by pid and start time.

A pid alone may by now belong to somebody else's process; with the start time it names one process of this boot. The
child writes its own record before it becomes the program, so a caller killed at any instant leaves no unknown process.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def stat_of(pid: int) -> tuple[str, int] | None:
    """Return a process's state letter and start time in clock ticks since boot, None where there is none; proc(5)."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    fields = text[text.rindex(")") + 2 :].split()
    return fields[0], int(fields[19])


def write_record(path: Path, pid: int) -> None:
    """Record a running process, whole or not at all."""
    stat = stat_of(pid)
    record = {"pid": pid, "started_ticks": stat[1] if stat else 0, "boot": BOOT_ID.read_text().strip()}
    fresh = path.with_suffix(".new")
    fresh.write_text(json.dumps(record) + "\n")
    fresh.rename(path)


def recorded(path: Path) -> int | None:
    """Return the pid of the recorded process if that very process still runs."""
    try:
        record = json.loads(path.read_text())
        pid, ticks, boot = int(record["pid"]), int(record["started_ticks"]), record["boot"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    stat = stat_of(pid)
    alive = stat is not None and stat[0] not in "ZX" and stat[1] == ticks and boot == BOOT_ID.read_text().strip()
    return pid if alive else None


def control_group_roots() -> Iterator[Path]:
    """Yield the mounts of the hierarchies that systemd uses: cgroup2 and, on older layouts, the v1 one it names."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        mount, _, kind = line.partition(" - ")
        fstype, _, options = kind.split(" ", 2)
        if fstype == "cgroup2" or (fstype == "cgroup" and "name=systemd" in options.split(",")):
            yield Path(mount.split(" ")[4])


def leave_control_group(name: str, *, timeout_s: float = 10.0) -> None:
    """Wait until the control groups of that name hold no process any more, and remove them."""
    deadline = time.monotonic() + timeout_s
    for root in control_group_roots():
        while (root / name).exists() and time.monotonic() < deadline:
            for folder, _, _ in os.walk(root / name, topdown=False):
                with contextlib.suppress(OSError):  # busy: its last processes are still being taken down
                    Path(folder).rmdir()
            if (root / name).exists():
                time.sleep(0.05)
        with contextlib.suppress(OSError):
            (root / name).parent.rmdir()


def spawn(argv: Sequence[str], record: Path, log: Path, control_group: str) -> None:
    """Start a program that outlives the caller, and return when it is the program. Its output goes to the end of `log`.

    Raises ChildProcessError with the reason where it could not be started.
    """
    reading, writing = os.pipe()
    if os.fork() == 0:
        _become(argv, record, log, control_group, writing)
    os.close(writing)
    with os.fdopen(reading, encoding="utf-8") as pipe:
        complaint = pipe.read()  # ends empty at the exec, which closes the other end
    if complaint:
        raise ChildProcessError(complaint)


def _become(argv: Sequence[str], record: Path, log: Path, control_group: str, complaints: int) -> NoReturn:
    try:
        os.setsid()
        for root in control_group_roots():
            # Without its own group each systemd-nspawn would use the caller's: two machines would share one tree
            # of units, and a `systemctl stop` inside one could end the processes of the other.
            group = root / control_group
            group.mkdir(parents=True, exist_ok=True)
            (group / "cgroup.procs").write_text(str(os.getpid()))
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        for descriptor in [int(path.name) for path in Path("/proc/self/fd").iterdir()]:
            with contextlib.suppress(OSError):  # what the caller was handed is none of the program's business
                os.set_inheritable(descriptor, descriptor < 3)
        write_record(record, os.getpid())
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
        os.execvpe(argv[0], list(argv), environment)  # noqa: S606 (there is nothing for a shell to do)
    except OSError as error:
        os.write(complaints, f"{argv[0]}: {error}".encode())
    os._exit(127)


def end(record: Path, *, grace_s: float = 0.0, timeout_s: float = 10.0) -> bool:
    """End the recorded process, politely for `grace_s` seconds, then with SIGKILL, and say whether it ran.

    Raises TimeoutError where it is still there `timeout_s` after SIGKILL.
    """
    pid = recorded(record)
    ran = pid is not None
    if pid is not None and grace_s > 0:
        os.kill(pid, signal.SIGTERM)
        _wait_gone(record, grace_s)
    if recorded(record) is not None and pid is not None:
        os.kill(pid, signal.SIGKILL)
        if not _wait_gone(record, timeout_s):
            raise TimeoutError(f"process {pid} of {record} is still there {timeout_s:g} s after SIGKILL")
    record.unlink(missing_ok=True)
    return ran


def _wait_gone(record: Path, timeout_s: float) -> bool:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if recorded(record) is None:
            return True
        time.sleep(0.05)
    return recorded(record) is None
