"""An app's jobs: timers of systemd that start a program of the live release. The program's unit is that of the live release; what runs is left to end."""

from __future__ import annotations

import json
import pathlib
import subprocess
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .layout import AppHost, ReleaseError, read_text, remove, write_atomically
from .systemd import link_at_boot, show, systemctl, unlink_at_boot

if TYPE_CHECKING:
    from praetor.documents import Event, Job, Manifest, Scheduled

BOOT = "timers.target"
# systemd's own messages about a unit, by their ids: see `journalctl --catalog`.
_BEGAN, _DONE, _FAILED = (
    "7d4958e842da4a758f6c1cdc7b36dcc5",
    "7ad2d189f7e94e70a38c781354912448",
    "d9b373ed55a64feb8242e02dbe79a49c",
)


def defined(manifest: Manifest | None) -> list[Job]:
    """The jobs of a release; one from before there were any has none."""
    return manifest["settings"].get("jobs", []) if manifest else []


def check(host: AppHost, manifest: Manifest) -> None:
    """Let systemd check the times of a release's jobs.

    Raises:
        ReleaseError: it does not understand it.
    """
    for job in defined(manifest):
        command = ["systemd-analyze", "calendar", "--", job["at"]]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            said = done.stderr.strip().partition("\n")[0]
            raise ReleaseError(
                f"job {job['name']} of {manifest['id']}: systemd on this host does not understand at '{job['at']}': {said}; nothing was started on {host.app}"
            )


def put(host: AppHost, share: Mapping[str, int]) -> None:
    """Schedule the live release's jobs that this host should run, and nothing else."""
    live = host.live()
    wanted = [job["name"] for job in defined(host.manifest(live.release) if live else None) if share.get(job["name"])]
    changed = False
    for name in _names(host):
        if name not in wanted:
            _forget(host, name)
            changed = True
    for name in wanted:
        for kind in ("service", "timer"):
            text = (host.release_dir(live.release if live else "") / "units" / f"{name}.{kind}").read_text("utf-8")
            place = _file(host, name, kind)
            if read_text(place) != text:
                write_atomically(place, text, 0o644)
                changed = True
        link_at_boot(host.layout.units, _unit(host, name, "timer"), BOOT)
    if changed:
        systemctl("daemon-reload")
    if changed and wanted:
        # Not the program: its timer, which looks again at when it is due.
        systemctl("restart", "--quiet", *(_unit(host, name, "timer") for name in wanted))


def are_current(host: AppHost, share: Mapping[str, int]) -> bool:
    """Whether what is live is scheduled, and nothing else."""
    live = host.live()
    wanted = {job["name"] for job in defined(host.manifest(live.release) if live else None) if share.get(job["name"])}
    return wanted == set(_names(host))


def look(host: AppHost) -> list[Scheduled]:
    """The jobs that are scheduled on this host."""
    names = _names(host)
    if not names:
        return []  # systemd is asked by another process, which costs as much as all else
    timers = {each["Id"]: each for each in show(f"app-{host.app}-*.timer", "ActiveState", "NextElapseUSecRealtime")}
    services = {each["Id"]: each for each in show(f"app-{host.app}-*.service", "ActiveState", "Result")}
    found: list[Scheduled] = []
    for name in names:
        timer, service = timers.get(_unit(host, name, "timer"), {}), services.get(_unit(host, name, "service"), {})
        at = timer.get("NextElapseUSecRealtime", "") if timer.get("ActiveState") == "active" else ""
        running = service.get("ActiveState") == "activating"
        found.append({"job": name, "next": at, "running": running, "result": service.get("Result", "success")})
    return found


def in_use(host: AppHost) -> set[str]:
    """The releases that a job runs from at this moment."""
    found = set()
    for each in show(f"app-{host.app}-*.service", "ActiveState", "MainPID"):
        if each["ActiveState"] == "activating" and each.get("MainPID", "0") != "0":
            said = read_text(pathlib.Path(f"/proc/{each['MainPID']}/environ")) or ""
            found |= {line.partition("=")[2] for line in said.split("\0") if line.startswith("APP_RELEASE=")}
    return found


def end_all(host: AppHost) -> None:
    """Schedule nothing, and end what runs."""
    names = _names(host)
    put(host, {})
    if names:
        systemctl("stop", "--quiet", *(_unit(host, name, "service") for name in names))


def history(host: AppHost, last: int) -> list[Event]:
    """How the jobs of this host went, by systemd's own messages, as entries of the history; of the last ones only."""
    units = [f"UNIT={_unit(host, name, 'service')}" for name in _names(host)]
    if not units:
        return []
    wanted = [f"MESSAGE_ID={each}" for each in (_BEGAN, _DONE, _FAILED)]
    command = ["journalctl", "--quiet", "--no-pager", "--output=json", f"--lines={last * 2}", "_PID=1", *units, *wanted]
    said = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False).stdout
    return ended(host.app, [json.loads(line) for line in said.splitlines()])


def ended(app: str, messages: list[dict[str, Any]]) -> list[Event]:
    """What messages of systemd about jobs mean: an entry for each that has ended."""
    began: dict[str, float] = {}
    found: list[Event] = []
    for each in messages:
        at, run = int(each["__REALTIME_TIMESTAMP"]) / 1e6, str(each.get("INVOCATION_ID", ""))
        if each["MESSAGE_ID"] == _BEGAN:
            began[run] = at
            continue
        name = str(each["UNIT"]).removeprefix(f"app-{app}-").removesuffix(".service")
        failed = each["MESSAGE_ID"] == _FAILED
        event: Event = {"ts": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at)), "action": "job", "by": "systemd"}
        event["result"] = "failed" if failed else "ok"
        event["why"] = f"{name}: {each.get('UNIT_RESULT', 'failed')}" if failed else name
        if run in began:
            event["duration_s"] = round(at - began[run], 1)
        found.append(event)
    return found


def _names(host: AppHost) -> list[str]:
    start = f"app-{host.app}-"
    return sorted(path.stem.removeprefix(start) for path in host.layout.units.glob(f"{start}*.timer"))


def _unit(host: AppHost, name: str, kind: str) -> str:
    return f"app-{host.app}-{name}.{kind}"


def _file(host: AppHost, name: str, kind: str) -> pathlib.Path:
    return host.layout.units / _unit(host, name, kind)


def _forget(host: AppHost, name: str) -> None:
    """No longer schedule a job. If it is running, it goes on, and systemd keeps its limits until it has ended."""
    timer = _unit(host, name, "timer")
    systemctl("stop", "--quiet", timer)
    unlink_at_boot(host.layout.units, timer, BOOT)
    remove(_file(host, name, "timer"))
    remove(_file(host, name, "service"))
