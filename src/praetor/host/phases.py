"""The phases of a run on a host."""

from __future__ import annotations

import base64
import contextlib
import io
import pathlib
from typing import IO, Any

from . import gate as gates
from . import journal as journals
from . import settle as settles
from . import site as sites
from . import stage as stages
from .flip import Limits, flip_and_bake
from .layout import AppHost, ReleaseError, Slot

OUTPUT_KEPT = 65536  # characters of a migration's output that the history keeps


def lock(host: AppHost, run: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any]:
    """Take the lock of the run, and repair what an interrupted run left."""
    with journals.phase(host, run, "lock", wanted["break_run"], begins=True) as journal:
        repaired = settles.repair(host, journal, wanted["drain_s"])
    return {"changed": bool(repaired), "repaired": repaired}


def stage(host: AppHost, run: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any]:
    """Lock, repair, and put the release on the host; the action plugin has uploaded what the host did not have."""
    with journals.phase(host, run, "stage", wanted["break_run"], begins=True) as journal:
        repaired = settles.repair(host, journal, wanted["drain_s"])
        parts = {**wanted["parts"], "secrets": wanted["secrets"]}
        with _files(wanted) as files:
            staged = stages.stage(host, wanted["manifest"], parts, files, wanted["checks"])
    return {"changed": staged or bool(repaired), "staged": staged, "repaired": repaired}


def _files(wanted: dict[str, Any]) -> contextlib.AbstractContextManager[IO[bytes] | None]:
    if wanted["uploads"]:
        return pathlib.Path(wanted["uploads"]).open("rb")
    return io.BytesIO(base64.b64decode(wanted["sent"])) if wanted["sent"] else contextlib.nullcontext()


def migrate(host: AppHost, run: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any]:
    """Run the app's migrations in order, from the staged release; output and result are kept in the app's history."""
    printed: list[str] = []
    with journals.phase(host, run, "migrate"):
        entry = {"action": "migrate", "to": wanted["release"], "run": run["id"]}
        try:
            for command in wanted["commands"]:
                printed.append(stages.run_command(host, wanted["release"], command, wanted["timeout_s"]))
        except ReleaseError as error:
            journals.append(host, {**entry, "result": "failed", "output": f"{''.join(printed)}{error}"[-OUTPUT_KEPT:]})
            raise
        journals.append(host, {**entry, "result": "ok", "output": "".join(printed)[-OUTPUT_KEPT:]})
    return {"changed": True, "output": printed}


def gate(host: AppHost, run: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any]:
    """Start the staged release's slot and wait until it is healthy on its private socket; a run that `begins` here locks and repairs first."""
    begins = wanted["begins"]
    with journals.phase(host, run, "gate", wanted["break_run"], begins=begins) as journal:
        repaired = settles.repair(host, journal, wanted["drain_s"]) if begins else []
        manifest = host.manifest(wanted["release"])
        if manifest is None:
            raise ReleaseError(
                f"release {wanted['release']} is not on this host; it has: {', '.join(host.releases()) or 'none'}"
            )
        sites.check(host, wanted["release"])
        live = host.live()
        slot = gates.gate(host, manifest, wanted["server_name"], journal, again=wanted["again"])
    return {"changed": slot != live or bool(repaired), "slot": slot.name, "repaired": repaired}


def flip(host: AppHost, run: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any]:
    """Send new requests to the slot that passed the gate, and watch it under real traffic."""
    slot, limits = Slot.parse(wanted["slot"]), wanted["limits"]
    if slot is None or slot not in host.slots():
        raise ReleaseError(f"slot {wanted['slot']} does not run on this host; nothing was flipped")
    with journals.phase(host, run, "flip") as journal:
        allowed = Limits(limits["bake_s"], limits["max_5xx_ratio"], limits["max_p95_factor"], limits["min_requests"])
        bake = flip_and_bake(host, slot, allowed, pathlib.Path(wanted["access_log"]), journal)
        journal["bake"] = bake
    return {"changed": bake["flipped"], "bake": bake}


def settle(host: AppHost, run: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any]:
    """End the run on this host: retire what is not live, prune, record; or, when the run failed, go back to what was live."""
    failed_because = wanted["failed_because"]
    if failed_because and not journals.holds(host, run["id"]):
        # This run never had the app on this host: it has nothing to undo here, and another run may be at work.
        live = host.live()
        return {"done": [], "live": live.release if live else None}
    with journals.phase(host, run, "settle") as journal:
        if failed_because:
            release, bad = wanted["release"], wanted["bad"]
            done = settles.abandon(host, run, journal, release, failed_because, wanted["drain_s"], bad=bad)
            # Also here, or failures in a row would fill the disk.
            done += settles.prune(host, wanted["keep"])
        else:
            facts = {"bake": journal.get("bake")} if journal.get("bake") else {}
            done = settles.settle(host, run, journal, wanted["release"], wanted["keep"], wanted["drain_s"], facts)
    live = host.live()
    return {"changed": True, "done": done, "live": live.release if live else None}


# What each phase is told: `phase: {key: value}` in the task.
_TEXT = {"type": "str", "required": True}
_BEGINS = {"break_run": {"type": "str"}, "drain_s": {"type": "float", "required": True}}
PHASES: dict[str, tuple[Any, dict[str, Any]]] = {
    "lock": (lock, _BEGINS),
    "stage": (
        stage,
        {
            **_BEGINS,
            "manifest": {"type": "dict", "required": True},
            "parts": {"type": "dict", "required": True},
            "secrets": {"type": "dict", "default": {}, "no_log": True},
            "checks": {"type": "list", "elements": "list", "default": []},
            # A tar of what the host does not have: its place there, or itself in base64.
            "uploads": {"type": "str"},
            "sent": {"type": "str"},
        },
    ),
    "migrate": (
        migrate,
        {
            "release": _TEXT,
            "commands": {"type": "list", "elements": "list", "required": True},
            "timeout_s": {"type": "float", "default": 600},
        },
    ),
    "gate": (
        gate,
        {
            **_BEGINS,
            "begins": {"type": "bool", "default": False},
            "release": _TEXT,
            "server_name": _TEXT,
            "again": {"type": "bool", "default": False},
        },
    ),
    "flip": (
        flip,
        {"slot": _TEXT, "limits": {"type": "dict", "required": True}, "access_log": {"type": "path", "required": True}},
    ),
    "settle": (
        settle,
        {
            "release": _TEXT,
            "keep": {"type": "int", "required": True},
            "drain_s": {"type": "float", "required": True},
            "failed_because": {"type": "str"},
            "bad": {"type": "bool", "default": False},
        },
    ),
}


def work(params: dict[str, Any]) -> dict[str, Any]:
    """Do the one phase that `params` names."""
    [phase] = [name for name in PHASES if params[name] is not None]
    result: dict[str, Any] = PHASES[phase][0](AppHost(params["app"]), params["run"], params[phase])
    return result
