"""What an app may do and use: the loosened directives of its sandbox, the limits of its slice, and which lines of a log the sandbox explains."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING

from .layout import AppHost, remove, write_atomically

if TYPE_CHECKING:
    from praetor.documents import Manifest, Sandbox, SliceLimit, SliceLimits

# By the name that an inventory uses: what a unit says instead.
LOOSER = {
    "LockPersonality": "LockPersonality=no",
    "MemoryDenyWriteExecute": "MemoryDenyWriteExecute=no",
    "PrivateDevices": "PrivateDevices=no\nDevicePolicy=auto",
    "ProcSubset": "ProcSubset=all",
    "ProtectProc": "ProtectProc=default",
    "RestrictAddressFamilies": "RestrictAddressFamilies=",
    "RestrictNamespaces": "RestrictNamespaces=no",
    "RestrictRealtime": "RestrictRealtime=no",
    "SystemCallFilter": "SystemCallFilter=\nSystemCallFilter=@system-service",
}
_KEY = "sandbox: {{loosened: {{{}: why}}}}"
# What programs say when the kernel refuses them something, and the key of the app's entry that allows it.
_SIGNS = (
    (
        re.compile(
            r"write\+execute memory|allocate executable memory|LLVM ERROR|mprotect.{0,80}(not permitted|denied)|"
            r"cannot enable executable stack|failed to map segment"
        ),
        "memory that is writable and executable",
        "sandbox: {write_execute: true}",
    ),
    (
        re.compile(r"signal 31\b|SIGSYS|[Bb]ad system call|\[Errno 1\] Operation not permitted"),
        "a system call",
        _KEY.format("SystemCallFilter"),
    ),
    (
        re.compile(r"Address family not supported by protocol"),
        "a kind of socket other than unix and IP",
        _KEY.format("RestrictAddressFamilies"),
    ),
    (
        re.compile(
            r"No such file or directory: ['\"]/proc/(stat|meminfo|cpuinfo|loadavg|uptime|vmstat|diskstats|sys/)"
        ),
        "files of /proc about the whole machine",
        _KEY.format("ProcSubset"),
    ),
)


def loosened(manifest: Manifest) -> dict[str, str]:
    """The directives that a release loosens, by name, each with its reason."""
    return named(manifest["settings"].get("sandbox"))


def named(sandbox: Sandbox | None) -> dict[str, str]:
    """The directives that `sandbox` of an entry loosens, by name, each with its reason."""
    found = sandbox or {}
    jit = {"MemoryDenyWriteExecute": "write_execute"} if found.get("write_execute") else {}
    return {**jit, **found.get("loosened", {})}


def directives(sandbox: Sandbox | None) -> str:
    """The lines of a unit of the app that differ from the project's sandbox."""
    return "".join(f"# {reason}\n{LOOSER[name]}\n" for name, reason in sorted(named(sandbox).items()))


def explain(log: str, kernel: str = "") -> str:
    """A sentence for each thing that the sandbox seems to have refused, and what allows it; empty when nothing looks like that."""
    found = [(what, key) for sign, what, key in _SIGNS if sign.search(log)]
    calls = sorted(set(re.findall(r"type=1326 .*?syscall=(\d+)", kernel)))
    if calls and not any("SystemCallFilter" in key for _, key in found):
        found.append((f"system call {', '.join(calls)}", _KEY.format("SystemCallFilter")))
    return "".join(
        f"\nThe sandbox refused it {what}. If it needs that, allow it in its entry of apps: {key}"
        for what, key in found
    )


def refused(host: AppHost, log: str, since: float) -> str:
    """What the sandbox refused the app since a time, by its log and the kernel's audit; empty when nothing."""
    command = ["journalctl", "--quiet", "--no-pager", "--output=cat", "--dmesg", f"--since=@{since:.3f}"]
    said = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False).stdout
    return explain(log, "\n".join(line for line in said.splitlines() if f" uid={host.uid} " in line))


def limit(host: AppHost, *manifests: Manifest | None) -> bool:
    """Give the app's slice the limits of a release, or the wider ones of several while their slots run side by side; whether anything changed."""
    limits: list[SliceLimits] = [found["settings"].get("limits", {}) for found in manifests if found]
    path, text = host.layout.units / host.slice, described(host.app, limits)
    if path.exists() and path.read_text(encoding="utf-8") == text:
        return False
    write_atomically(path, text, 0o644)
    reload()
    return True


def unlimit(host: AppHost) -> None:
    """Forget the limits of an app that is removed."""
    remove(host.layout.units / host.slice)
    reload()


def described(app: str, limits: list[SliceLimits]) -> str:
    """The slice's unit file. A release from before there were such limits has none, and none is the widest."""
    widest = {key: _widest([found.get(key) for found in limits]) for key in _DIRECTIVES}
    lines = [
        f"{name}={_shown(widest[key], unit)}" for key, (name, unit) in _DIRECTIVES.items() if widest[key] is not None
    ]
    head = "# Managed by Ansible: written by a release; from limits of its entry in apps."
    return "\n".join([head, "[Unit]", f"Description=App {app}", "", "[Slice]", *lines, ""])


_DIRECTIVES: dict[SliceLimit, tuple[str, str]] = {
    "memory_max": ("MemoryMax", "M"),
    "memory_high": ("MemoryHigh", "M"),
    "cpu_weight": ("CPUWeight", ""),
    "cpu_quota": ("CPUQuota", "%"),
    "tasks_max": ("TasksMax", ""),
    "io_weight": ("IOWeight", ""),
}


def _widest(values: list[int | str | None]) -> int | str | None:
    """None is no limit; shares of the host's memory are compared with MiB by what the host has."""
    return None if None in values else max((value for value in values if value is not None), key=_amount, default=None)


def _amount(value: int | str) -> float:
    return int(value.rstrip("%")) / 100 * _memory_mb() if isinstance(value, str) else value


def _memory_mb() -> float:
    with open("/proc/meminfo", encoding="ascii") as lines:  # noqa: PTH123  opened for each comparison
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("MemTotal"))


def _shown(value: int | str | None, unit: str) -> str:
    return str(value) if isinstance(value, str) else f"{value}{unit}"


def reload() -> None:
    """Let systemd read its files; limits of a slice that runs are in effect from then on."""
    subprocess.run(["systemctl", "daemon-reload"], capture_output=True, check=False)
