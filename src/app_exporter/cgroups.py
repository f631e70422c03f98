"""What the kernel counts of an application as a whole: the cgroup of its slice, and those of the units in it (cgroup v2).

A file that is not there belongs to a controller that the machine does not have; its figures are left out.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from app_exporter.problems import BrokenError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from app_exporter.exposition import Exposition, Labels

MAX_CGROUPS = 2000  # of an application: a service may make more below it
# The units of an application: Emperors with their slots, instances of a process, jobs, single commands.
_UNIT = re.compile(r"app-(?P<app>[a-z0-9_]+)-(?P<program>[a-z0-9_]+)(-\d+@\d+)?\.service")


def read_number(path: Path) -> float | None:
    """Read a file of one number; none where there is no such file, or no limit (``max``).

    Raises:
        OSError: it cannot be read.
        BrokenError: it is no number.

    """
    try:
        text = path.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        return None
    if text == "max":
        return None
    try:
        return float(text)
    except ValueError:
        raise BrokenError(f"{path.name} says {text[:40]!r}") from None


def read_table(path: Path) -> dict[str, float]:
    """Read a file of names and numbers, a pair on each line; nothing where there is no such file.

    Raises:
        OSError: it cannot be read.
        BrokenError: a line is no such pair.

    """
    try:
        lines = path.read_text(encoding="ascii").splitlines()
    except FileNotFoundError:
        return {}
    try:
        return {name: float(value) for name, value in (line.split() for line in lines)}
    except ValueError:
        raise BrokenError(f"{path.name} has a line that is no name with a number") from None


def processes(cgroup: Path) -> int:
    """Count the processes of a cgroup and of all below it.

    Raises:
        OSError: it cannot be read.
        BrokenError: there are too many cgroups to look at.

    """
    return sum(len((each / "cgroup.procs").read_text(encoding="ascii").split()) for each in _all(cgroup))


def _all(cgroup: Path) -> Iterator[Path]:
    waiting, seen = [cgroup], 0
    while waiting:
        each, seen = waiting.pop(), seen + 1
        if seen > MAX_CGROUPS:
            raise BrokenError(f"more than {MAX_CGROUPS} cgroups")
        yield each
        waiting += [path for path in each.iterdir() if path.is_dir()]


def program_of(unit: str, app: str) -> str:
    """Name what a unit runs: a process or job by its name, ``slots``, or ``other``."""
    found = _UNIT.fullmatch(unit)
    if found and found["app"] == app:
        return found["program"]
    return "slots" if re.fullmatch(rf"uwsgi-emperor@{app}-\d+\.service", unit) else "other"


def add_cgroup(app: str, slices: Path, exposition: Exposition) -> None:
    """Add what an application takes, and what it was refused.

    Args:
        app: its name.
        slices: the cgroup of the slice that holds those of all applications.
        exposition: where to.

    Raises:
        OSError: something cannot be read.
        BrokenError: something is not what the kernel writes.

    """
    cgroup, label = slices / f"apps-{app}.slice", (("app", app),)
    if not cgroup.is_dir():
        return  # nothing of it runs
    for name, file, text in (
        ("praetor_app_memory_bytes", "memory.current", "Memory that the application takes, its file cache included."),
        ("praetor_app_memory_limit_bytes", "memory.max", "Memory beyond which the kernel ends processes of it."),
        ("praetor_app_tasks", "pids.current", "Processes and threads of the application."),
        ("praetor_app_tasks_limit", "pids.max", "Processes and threads that it may have."),
    ):
        value = read_number(cgroup / file)
        if value is not None:
            exposition.add("gauge", name, text, value, label)
    _add_counters(cgroup, label, exposition)
    memory: dict[str, float] = {}
    counts: dict[str, int] = {}
    for unit in sorted(path for path in cgroup.iterdir() if path.is_dir()):
        program = program_of(unit.name, app)
        try:
            counts[program] = counts.get(program, 0) + processes(unit)
            taken = read_number(unit / "memory.current")
        except (FileNotFoundError, NotADirectoryError):
            continue  # it has ended while it was looked at
        if taken is not None:
            memory[program] = memory.get(program, 0) + taken
    for program, count in counts.items():
        text = "Processes of the application, by what they belong to."
        exposition.add("gauge", "praetor_program_processes", text, count, (*label, ("program", program)))
    for program, taken in memory.items():
        text = "Memory that is taken, by what it belongs to."
        exposition.add("gauge", "praetor_program_memory_bytes", text, taken, (*label, ("program", program)))


def _add_counters(cgroup: Path, label: Labels, exposition: Exposition) -> None:
    cpu, memory = read_table(cgroup / "cpu.stat"), read_table(cgroup / "memory.events")
    tasks = read_table(cgroup / "pids.events")
    for name, value, text in (
        ("praetor_app_cpu_seconds_total", cpu.get("usage_usec"), "Processor time of the application."),
        (
            "praetor_app_cpu_throttled_seconds_total",
            cpu.get("throttled_usec"),
            "Time that limits.cpu_quota made it wait.",
        ),
    ):
        if value is not None:
            exposition.add("counter", name, text, value / 1e6, label)
    for name, value, text in (
        ("praetor_app_oom_kills_total", memory.get("oom_kill"), "Processes that the kernel ended for want of memory."),
        ("praetor_app_memory_slowed_total", memory.get("high"), "Times that it was slowed down at limits.memory_high."),
        ("praetor_app_tasks_refused_total", tasks.get("max"), "Processes and threads refused at limits.tasks_max."),
    ):
        if value is not None:
            exposition.add("counter", name, text, value, label)
