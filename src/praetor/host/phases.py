"""The phases of a run on a host. The signature of each says what it is told; the task's arguments are made from that."""

from __future__ import annotations

import base64
import contextlib
import io
import pathlib
from collections.abc import Callable
from typing import IO, TYPE_CHECKING

from . import debian_packages, egress, processes
from . import gate as gates
from . import journal as journals
from . import settle as settles
from . import site as sites
from . import stage as stages
from .flip import Limits, flip_and_bake
from .layout import AppHost, ReleaseError, Slot

if TYPE_CHECKING:
    from praetor.documents import Event, Manifest, Options, Parts, PhaseAnswer, Place, Run

OUTPUT_KEPT = 65536  # characters of a migration's output that the history keeps


def lock(host: AppHost, run: Run, *, drain_s: float, break_run: str | None = None) -> PhaseAnswer:
    """Take the lock of the run, and repair what an interrupted run left."""
    with journals.phase(host, run, "lock", break_run, begins=True) as journal:
        repaired = settles.repair(host, journal, drain_s)
    return {"changed": bool(repaired), "repaired": repaired}


def stage(  # noqa: PLR0913  a release is made of so many things
    host: AppHost,
    run: Run,
    *,
    drain_s: float,
    manifest: Manifest,
    parts: Parts,
    secrets: dict[str, str],
    checks: list[list[str]],
    uploads: str | None = None,
    sent: str | None = None,
    break_run: str | None = None,
) -> PhaseAnswer:
    """Lock, repair, and put the release on the host, with the Debian packages that it needs.

    A tar of what the host did not have: its place there (`uploads`), or itself in base64 (`sent`).
    """
    with journals.phase(host, run, "stage", break_run, begins=True) as journal:
        repaired = settles.repair(host, journal, drain_s)
        packages = manifest.get("packages", {}).get(stages.python_tag(), [])
        installed = bool(packages) and debian_packages.work(check=False, name=packages)["changed"]
        # What is run from the release before its slot starts connects to what the release may.
        live = host.live()
        egress.limit(host, manifest, host.manifest(live.release) if live else None)
        with _files(uploads, sent) as files:
            staged = stages.stage(host, manifest, {**parts, "secrets": secrets}, files, checks)
    return {"changed": staged or installed or bool(repaired), "staged": staged, "repaired": repaired}


def _files(uploads: str | None, sent: str | None) -> contextlib.AbstractContextManager[IO[bytes] | None]:
    if uploads:
        return pathlib.Path(uploads).open("rb")
    return io.BytesIO(base64.b64decode(sent)) if sent else contextlib.nullcontext()


def migrate(host: AppHost, run: Run, *, release: str, commands: list[list[str]], timeout_s: float = 600) -> PhaseAnswer:
    """Run the app's migrations in order, from the staged release; output and result are kept in the app's history."""
    printed: list[str] = []
    with journals.phase(host, run, "migrate"):
        event: Event = {"action": "migrate", "to": release, "run": run["id"]}
        try:
            for command in commands:
                printed.append(stages.run_command(host, release, command, timeout_s))
        except ReleaseError as error:
            journals.append(host, {**event, "result": "failed", "output": f"{''.join(printed)}{error}"[-OUTPUT_KEPT:]})
            raise
        journals.append(host, {**event, "result": "ok", "output": "".join(printed)[-OUTPUT_KEPT:]})
    return {"changed": True, "output": printed}


def gate(
    host: AppHost, run: Run, *, release: str, server_name: str, drain_s: float, break_run: str | None = None
) -> PhaseAnswer:
    """Start the release's slot and wait until it is healthy on its private socket; what was not staged in this run locks and repairs here first."""
    begins = run["action"] != "release"
    with journals.phase(host, run, "gate", break_run, begins=begins) as journal:
        repaired = settles.repair(host, journal, drain_s) if begins else []
        manifest = host.manifest(release)
        if manifest is None:
            raise ReleaseError(f"release {release} is not on this host; it has: {', '.join(host.releases()) or 'none'}")
        sites.check(host, release)
        processes.check(host, manifest)
        live = host.live()
        slot = gates.gate(host, manifest, server_name, journal, again=run["action"] == "refresh")
    return {"changed": slot != live or bool(repaired), "slot": slot.name, "repaired": repaired}


def flip(host: AppHost, run: Run, *, slot: str, limits: Options, access_log: str, place: Place) -> PhaseAnswer:
    """Send new requests to the slot that passed the gate, and watch it under real traffic."""
    started = Slot.parse(slot)
    if started is None or not host.stands(started):
        raise ReleaseError(f"slot {slot} does not run on this host; nothing was flipped")
    with journals.phase(host, run, "flip") as journal:
        allowed = Limits(limits["bake_s"], limits["max_5xx_ratio"], limits["max_p95_factor"], limits["min_requests"])
        bake = flip_and_bake(host, started, allowed, pathlib.Path(access_log), journal, place)
        journal["bake"] = bake
    return {"changed": bake["flipped"], "bake": bake}


def settle(
    host: AppHost,
    run: Run,
    *,
    release: str,
    keep: int,
    drain_s: float,
    reason: str | None = None,
    bad: bool = False,
) -> PhaseAnswer:
    """End the run on this host: retire what is not live, prune, record; or, when the run failed for a `reason`, go back to what was live."""
    done: list[str] = []
    # A failed run that never had the app on this host has nothing to undo here, and another run may be at work.
    mine = not reason or journals.holds(host, run["id"])
    if mine:
        with journals.phase(host, run, "settle") as journal:
            if reason:
                done = settles.abandon(host, journal, release, reason, drain_s, bad=bad)
                # Also here, or failures in a row would fill the disk.
                done += settles.prune(host, keep)
            else:
                done = settles.settle(host, journal, release, keep, drain_s)
    live = host.live()
    return {"changed": mine, "done": done, "live": live.release if live else None}


PHASES: dict[str, Callable[..., PhaseAnswer]] = {
    "lock": lock,
    "stage": stage,
    "migrate": migrate,
    "gate": gate,
    "flip": flip,
    "settle": settle,
}


def work(*, app: str, run: Run, phase: str, told: dict[str, object]) -> PhaseAnswer:
    """Do one phase with its arguments."""
    return PHASES[phase](AppHost(app), run, **told)
