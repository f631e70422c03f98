"""An app's processes: units of a release, in the app's slice, next to its slots.

Each start of a release has its own: process `worker` of the start whose slot is number 17 is `app-api-worker-17@1.service`, and `@2` where it runs twice. What
is live is said by `live.sock` alone, so units of the live slot's number are those that must run, and all others end: at once, or with what they are doing.
"""

from __future__ import annotations

import contextlib
import json
import pathlib
import re
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from . import holds, jobs
from . import journal as journals
from .layout import AppHost, ReleaseError, Slot, read_json, read_text, remove, write_atomically
from .logs import last_lines
from .stage import run_command
from .systemd import link_at_boot, show, systemctl, unlink_at_boot

if TYPE_CHECKING:
    from praetor.documents import Journal, Manifest, Place, Process, Running

ALIVE_S = 3.0  # a program that does not say READY=1 counts as ready when it has lived this long
READY_S = 90.0  # and one that does must have said it by then; the unit says so too
LOOK_S = 0.1
LOOK_AT_S = 120.0  # for finding a program and importing it
_FILE = re.compile(r"app-(?P<app>[a-z0-9_]+)-(?P<process>[a-z0-9_]+)-(?P<number>\d+)@(?P<instance>\d*)\.service")
_RELEASE = re.compile(r"^# Release: (\S+)$", re.MULTILINE)
_PROPERTIES = ("ActiveState", "SubState", "NRestarts", "ExecMainStatus", "ExecMainCode", "MainPID", "Result")

Share = dict[str, int]  # how many of each process run on this host


ALONE: Place = {"index": 0, "hosts": 1, "held": [], "takes": True}


class Unit(NamedTuple):
    """One instance of a process of one start."""

    app: str
    process: str
    number: int
    instance: int

    @property
    def name(self) -> str:
        """Its name for systemd."""
        return f"{self.template}@{self.instance}.service"

    @property
    def template(self) -> str:
        """What the instances of one process share."""
        return f"app-{self.app}-{self.process}-{self.number}"

    @classmethod
    def parse(cls, name: str) -> Unit | None:
        """Read a unit's name, or that of its file, which has no instance; None for any other."""
        found = _FILE.fullmatch(name)
        if not found:
            return None
        return cls(found["app"], found["process"], int(found["number"]), int(found["instance"] or 0))


def work(*, app: str, process: str, count: int) -> dict[str, object]:
    """Run a process of what is live of an app so many times on this host; returns when it is ready, or has ended.

    Raises:
        LockedError: a run has the app.
        ReleaseError: it is not ready, or does not end.
    """
    host = AppHost(app)
    journals.refuse_when_locked(host)
    live, before = host.live(), share(host)
    manifest = host.manifest(live.release) if live else None
    known = {each["name"]: each for each in defined(manifest)}
    scheduled = {each["job"]: each["running"] for each in jobs.look(host)}
    if not count and scheduled.get(process):
        raise ReleaseError(
            f"job {process} runs on this host at this moment; nothing was changed, try again when it has ended"
        )
    if live is None or process not in {*known, *(job["name"] for job in jobs.defined(manifest))}:
        raise ReleaseError(f"what is live on this host has no process {process}; nothing was changed")
    wanted = {**before, process: count}
    keep_share(host, wanted)
    began = time.time()
    try:
        start(host, live, wanted)
        _await_ready(host, live, wanted)
    except ReleaseError as error:
        raise ReleaseError(f"{error}. The last lines of its log:\n{last_lines(host, began)}") from None
    jobs.put(host, wanted)
    if not count and process in known:
        _await_end(host, known[process])
    return {"changed": wanted != before}


def defined(manifest: Manifest | None) -> list[Process]:
    """The processes of a release; one from before there were any has none."""
    return manifest["settings"].get("processes", []) if manifest else []


def once(manifest: Manifest | None) -> list[str]:
    """The processes and jobs of a release that run once in the fleet."""
    alone = [process["name"] for process in defined(manifest) if process["one"]]
    return alone + [job["name"] for job in jobs.defined(manifest) if job["on"] == "once"]


def share_of(manifest: Manifest | None, own: Share, place: Place) -> Share:
    """How many of each process of a release run on a host. A pure decision.

    Args:
        manifest: the release's.
        own: what runs there now: who runs the only one keeps it.
        place: the host's, in the fleet.
    """
    found = {}
    for process in defined(manifest):
        name = process["name"]
        if process["one"]:
            found[name] = int(name not in place["held"] and bool(own.get(name) or place["takes"]))
        elif process["count"] is not None:
            each, more = divmod(process["count"], place["hosts"])
            found[name] = each + (place["index"] < more)
        else:
            found[name] = process["per_host"] or 1
    for job in jobs.defined(manifest):
        name = job["name"]
        alone = name not in place["held"] and bool(own.get(name) or place["takes"])
        found[name] = int(job["on"] == "each" or alone)
    return found


def share(host: AppHost) -> Share:
    """What this host should run of the live release."""
    return dict(read_json(host.root / "processes.json") or {})


def keep_share(host: AppHost, wanted: Share) -> None:
    """Note what this host should run, for reboots, undos and repairs."""
    if wanted != share(host):
        write_atomically(host.root / "processes.json", json.dumps(wanted) + "\n", 0o644)


def check(host: AppHost, manifest: Manifest) -> None:
    """Find each program of a release and import its modules; the program itself does not run.

    Raises:
        ReleaseError: a program is not there, or cannot be imported.
    """
    release = manifest["id"]
    jobs.check(host, manifest)
    programs = [("process", each["name"], each["command"]) for each in defined(manifest)]
    programs += [("job", each["name"], each["command"]) for each in jobs.defined(manifest)]
    for kind, name, command in programs:
        program = host.release_dir(release) / "slot/praetor_slot/look.py"
        look = [f"{host.release_dir(release)}/venv/bin/python", "-P", str(program), *command]
        try:
            run_command(host, release, look, LOOK_AT_S)
        except ReleaseError as error:
            said = str(error).partition("\n")[2]
            raise ReleaseError(
                f"{kind} {name} of {release} cannot be started: its program '{' '.join(command)}' could not be imported; "
                f"nothing was started, {_serving(host)}. It says:\n{said}"
            ) from None


def change(host: AppHost, slot: Slot, wanted: Share, journal: Journal) -> None:
    """Start the processes of a slot that is about to be live, and return when they are ready. Those of other starts go on, but for ones of which there is only one.

    Raises:
        ReleaseError: one is not ready. What ran before runs again, and the others end.
    """
    journal.setdefault("share", share(host))
    journals.save(host, journal)
    keep_share(host, wanted)
    began = time.time()
    try:
        start(host, slot, wanted)
        _await_ready(host, slot, wanted)
    except ReleaseError as error:
        lines = last_lines(host, began)
        put_back(host, journal)
        raise ReleaseError(f"{error}. {_serving(host)}. The last lines of its log:\n{lines}") from None


def start(host: AppHost, slot: Slot, wanted: Share) -> None:
    """Start what a slot's release has, as often as is wanted; what runs already is left alone. Of a process that runs once, the one before is ended first."""
    manifest = host.manifest(slot.release)
    holds.take(host, wanted, once(manifest))
    units = [Unit(host.app, name, slot.number, instance) for name, instance in _instances(host, slot, wanted)]
    for process in defined(manifest):
        if process["one"]:
            _end_first(host, process, slot)
    fresh = [unit for unit in units if _describe(host, unit, slot.release)]
    if fresh:
        systemctl("daemon-reload")
    if units:
        systemctl("start", "--no-block", "--quiet", *(unit.name for unit in units))
    surplus = [unit for unit in _known(host) if unit.number == slot.number and unit not in units]
    _stop(host, surplus)


def stop_others(host: AppHost, slot: Slot | None) -> None:
    """Ask the processes of all other starts to end; nobody waits for what they are doing."""
    _stop(host, [unit for unit in _known(host) if slot is None or unit.number != slot.number])


def put_back(host: AppHost, journal: Journal) -> None:
    """Run what the live slot has, and nothing else: after a run that failed or was interrupted, by its journal."""
    live = host.live()
    name = live.name if live else None
    if "share" in journal and journal.get("previous", name) == name:
        keep_share(host, journal["share"])
    if live:
        start(host, live, share(host))
    stop_others(host, live)
    jobs.put(host, share(host))


def breach(host: AppHost, slot: Slot, wanted: Share) -> str | None:
    """Why a slot's processes make its bake fail; None if they do not."""
    seen = {(each["process"], each["instance"]): each for each in look(host) if each["number"] == slot.number}
    for process, instance in _instances(host, slot, wanted):
        if problem := _problem(seen.get((process, instance))):
            return f"process {process} {instance} {problem}"
    return None


def look(host: AppHost) -> list[Running]:
    """All units of the app's processes that systemd knows, oldest start first."""
    releases = {(unit.process, unit.number): release for unit, release in _files(host)}
    if not releases:
        return []  # a file goes when its unit has ended, so nothing runs; to ask systemd takes longer than all else
    found: list[Running] = []
    for shown in show(f"app-{host.app}-*@*.service", *_PROPERTIES):
        unit = Unit.parse(shown["Id"])
        if unit is None or unit.app != host.app or shown["ActiveState"] == "inactive":
            continue
        found.append(
            {
                "process": unit.process,
                "number": unit.number,
                "instance": unit.instance,
                "release": releases.get((unit.process, unit.number), "?"),
                "state": "restarting" if shown["SubState"] == "auto-restart" else shown["ActiveState"],
                "restarts": int(shown["NRestarts"] or 0),
                "ended": _ended(shown),
            }
        )
    return sorted(found, key=lambda each: (each["number"], each["process"], each["instance"]))


def in_use(host: AppHost) -> set[str]:
    """The releases that unit files name, and those that a job still runs from.

    Not those of what runs: what ends after `forget_ended` has looked would leave a file of a release that is gone.
    """
    return {release for _, release in _files(host)} | jobs.in_use(host)


def is_current(host: AppHost) -> bool:
    """Whether everything runs that this host is to run of what is live."""
    live, wanted = host.live(), share(host)
    manifest = host.manifest(live.release) if live else None
    names = {process["name"] for process in defined(manifest)} | {job["name"] for job in jobs.defined(manifest)}
    right = names == set(wanted) and jobs.are_current(host, wanted)
    return live is None or (right and breach_of_rest(host, live, wanted) is None)


def breach_of_rest(host: AppHost, slot: Slot, wanted: Share) -> str | None:
    """Which process does not run that should, long after its start; a restart since then is no matter of the release."""
    seen = {(each["process"], each["instance"]) for each in look(host) if each["number"] == slot.number}
    absent = [f"{name} {i}" for name, i in _instances(host, slot, wanted) if (name, i) not in seen]
    return f"process {', '.join(absent)} does not run" if absent else None


def forget_ended(host: AppHost) -> None:
    """Remove the files of units that have ended and are not of what is live.

    One that ended with a failure, or was killed when `drain_s` was over, systemd would keep for ever, and its release with it.
    """
    live = host.live()
    seen = look(host)
    failed = [each for each in seen if each["state"] == "failed" and not (live and each["number"] == live.number)]
    if failed:
        systemctl("reset-failed", *(_name(host, each) for each in failed))
        seen = look(host)
    running = {(each["process"], each["number"]) for each in seen}
    gone = [
        unit
        for unit, _ in _files(host)
        if (unit.process, unit.number) not in running and not (live and unit.number == live.number)
    ]
    for unit in gone:
        remove(_file(host, unit))
    if gone:
        systemctl("daemon-reload")


def end_all(host: AppHost) -> None:
    """End every process of the app, and wait until they are gone; systemd lets none live longer than its `drain_s`."""
    stop_others(host, None)
    jobs.end_all(host)
    holds.take(host, {}, ())
    if running := look(host):
        units = (Unit(host.app, each["process"], each["number"], each["instance"]).name for each in running)
        systemctl("stop", "--quiet", *units)
    for unit, _ in _files(host):
        remove(_file(host, unit))
    systemctl("daemon-reload")


def _instances(host: AppHost, slot: Slot, wanted: Share) -> list[tuple[str, int]]:
    """The processes of a slot's release, each as often as is wanted."""
    names = [process["name"] for process in defined(host.manifest(slot.release))]
    return [(name, instance) for name in names for instance in range(1, wanted.get(name, 0) + 1)]


def _serving(host: AppHost) -> str:
    live = host.live()
    return f"{live.release} goes on" if live else "nothing was live before, so nothing runs now"


def _describe(host: AppHost, unit: Unit, release: str) -> bool:
    """Give systemd the unit's file, which a release brings, and have it started at boot; whether anything was new."""
    text, place = (
        (host.release_dir(release) / "units" / f"{unit.process}@.service").read_text(encoding="utf-8"),
        _file(host, unit),
    )
    new = read_text(place) != text
    if new:
        write_atomically(place, text, 0o644)
    return link_at_boot(host.layout.units, unit.name) or new


def _end_first(host: AppHost, process: Process, slot: Slot) -> None:
    """End another start's instances of a process that runs once, and wait until they have ended.

    Raises:
        ReleaseError: it does not end.
    """
    _stop(host, [unit for unit in _known(host) if unit.process == process["name"] and unit.number != slot.number])
    _await_end(host, process, slot)


def _await_end(host: AppHost, process: Process, but: Slot | None = None) -> None:
    """Return when all instances of a process have ended, except those of one start.

    Raises:
        ReleaseError: it does not end.
    """
    deadline = time.monotonic() + process["drain_s"] + 30
    while left := [
        each for each in look(host) if each["process"] == process["name"] and not (but and each["number"] == but.number)
    ]:
        if time.monotonic() > deadline:
            named = " ".join(_name(host, each) for each in left)
            raise ReleaseError(
                f"process {process['name']} does not end, and there may be only one; systemctl status {named}"
            )
        time.sleep(LOOK_S)


def _await_ready(host: AppHost, slot: Slot, wanted: Share) -> None:
    """Return when all have said READY=1, or have lived long enough.

    Raises:
        ReleaseError: one ended, or did not say it.
    """
    began = time.monotonic()
    says = {process["name"] for process in defined(host.manifest(slot.release)) if process["notify"]}
    waited_for = set(_instances(host, slot, wanted))
    while waited_for:
        seen = {(each["process"], each["instance"]): each for each in look(host) if each["number"] == slot.number}
        late = time.monotonic() - began
        for name, instance in sorted(waited_for):
            found = seen.get((name, instance))
            problem = _problem(found) if found or late > 1 else None
            if problem and not (found and found["state"] == "activating"):
                raise ReleaseError(f"process {name} {instance} of {slot.release} {problem}")
            if late > READY_S + 10:
                raise ReleaseError(f"process {name} {instance} of {slot.release} did not say READY=1 to systemd")
            if found and found["state"] == "active" and (name in says or late >= ALIVE_S):
                waited_for.remove((name, instance))
        time.sleep(LOOK_S)


def _problem(found: Running | None) -> str | None:
    """What is wrong with a process that should run."""
    if found is None:
        return "has ended"
    if found["restarts"] or found["state"] in {"restarting", "failed", "deactivating"}:
        return f"ended by itself ({found['ended']}){' and was started again' if found['restarts'] else ''}"
    return None if found["state"] == "active" else f"is {found['state']}"


def _ended(shown: dict[str, str]) -> str:
    result = shown["Result"]
    if result in {"timeout", "oom-kill", "watchdog", "resources", "protocol"}:
        return {"oom-kill": "out of memory", "timeout": "it did not say READY=1 in time"}.get(result, result)
    # CLD_EXITED is 1; other codes are signals.
    what = "exit status" if shown["ExecMainCode"] in {"0", "1"} else "signal"
    return f"{what} {shown['ExecMainStatus']}"


def _name(host: AppHost, running: Running) -> str:
    return Unit(host.app, running["process"], running["number"], running["instance"]).name


def _stop(host: AppHost, units: Iterable[Unit]) -> None:
    named = [unit.name for unit in units]
    for name in named:
        unlink_at_boot(host.layout.units, name)
    if named:
        systemctl("stop", "--no-block", "--quiet", *named)


def _known(host: AppHost) -> list[Unit]:
    """The instances that run, and those that would be started at boot."""
    found = {Unit(host.app, each["process"], each["number"], each["instance"]) for each in look(host)}
    links = host.layout.units / "multi-user.target.wants"
    with contextlib.suppress(FileNotFoundError):
        found |= {unit for path in links.iterdir() if (unit := Unit.parse(path.name)) and unit.app == host.app}
    return sorted(found)


def _files(host: AppHost) -> Iterator[tuple[Unit, str]]:
    """The app's unit files, each with the release that it is of."""
    for path in sorted(host.layout.units.glob(f"app-{host.app}-*@.service")):
        unit = Unit.parse(path.name)
        release = _RELEASE.search(read_text(path) or "")
        if unit and unit.app == host.app and release:
            yield unit, release[1]


def _file(host: AppHost, unit: Unit) -> pathlib.Path:
    return host.layout.units / f"{unit.template}@.service"
