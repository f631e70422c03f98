"""What is on disk about an application's releases: the last one, the lock of a run, the freeze, how many there are."""

from __future__ import annotations

import json
import os
import time
from datetime import datetime
from os import scandir
from typing import TYPE_CHECKING, Any

from app_exporter.problems import BrokenError, number

if TYPE_CHECKING:
    from pathlib import Path

    from app_exporter.exposition import Exposition, Labels

# An entry can hold 64 KiB of a command's output.
HISTORY_TAIL_BYTES = 1 << 20
CHANGES = ("release", "rollback")
# This many of them become markers; each is a separate series.
MARKERS = 20


def changes(path: Path) -> list[dict[str, Any]]:
    """Read the last entries of a history that changed, or should have changed, what clients reach; oldest first.

    Raises:
        OSError: it cannot be read.
        BrokenError: there is something in it, but no such entry.

    """
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - HISTORY_TAIL_BYTES))
        lines = file.read().splitlines()
    found: list[dict[str, Any]] = []
    # A line that is still being written, or was cut off, is no entry.
    for line in reversed(lines):
        try:
            entry = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(entry, dict) and entry.get("action") in CHANGES:
            found.append(entry)
            if len(found) == MARKERS:
                break
    if not found and lines and not any(b'"action"' in line for line in lines):
        raise BrokenError("has no entry that could be read")
    return found[::-1]


def ended(entry: dict[str, Any]) -> float:
    """Say when an entry of a history was made.

    Raises:
        BrokenError: it does not say.

    """
    try:
        return datetime.fromisoformat(str(entry.get("ts"))).timestamp()
    except ValueError as error:
        raise BrokenError(f"ts: {error}") from None


def said(entry: dict[str, Any], *more: str) -> Labels:
    """Take from an entry what becomes labels."""
    return tuple((key, str(entry.get(key) or "")) for key in ("action", "from", "to", "result", *more))


def read_object(path: Path) -> dict[str, Any] | None:
    """Read a small JSON file; none if there is no such file.

    Raises:
        OSError: it cannot be read.
        BrokenError: it is not a JSON object.

    """
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError) as error:
        raise BrokenError(f"not JSON: {error}") from None
    if not isinstance(found, dict):
        raise BrokenError("not a JSON object")
    return found


def add_history(app: str, directory: Path, exposition: Exposition) -> None:
    """Add the result of the last release or rollback, and a marker for each of the last ones, from ``history.jsonl``.

    Raises:
        OSError: the history cannot be read.
        BrokenError: it is not what it should be.

    """
    try:
        entries = changes(directory / "history.jsonl")
    except FileNotFoundError:
        entries = []
    if not entries:
        return  # nothing was released yet
    label = (("app", app),)
    markers = {said(entry, "by"): ended(entry) for entry in entries}
    last = entries[-1]
    took = number(last, "duration_s")
    for labels, at in markers.items():
        text = "Time of a release or rollback, whatever became of it; the last ones, each in its labels."
        exposition.add("gauge", "praetor_deploy_timestamp_seconds", text, at, label + labels)
    text = "The last release or rollback, in its labels."
    exposition.add("gauge", "praetor_deploy_last_info", text, 1, label + said(last))
    text = "Whether the last release or rollback did what it should."
    exposition.add("gauge", "praetor_deploy_last_success", text, last.get("result") == "ok", label)
    text = "Time of the last release or rollback."
    exposition.add("gauge", "praetor_deploy_last_timestamp_seconds", text, ended(last), label)
    text = "How long the last release or rollback took."
    exposition.add("gauge", "praetor_deploy_last_duration_seconds", text, took, label)


def add_lock(app: str, directory: Path, exposition: Exposition) -> None:
    """Add who is changing the application just now, from ``run.json``.

    Raises:
        OSError: it cannot be read.
        BrokenError: it is not what it should be.

    """
    label = (("app", app),)
    journal = read_object(directory / "run.json")
    text = "Whether a run holds the application, or has died holding it."
    exposition.add("gauge", "praetor_lock_held", text, journal is not None, label)
    if journal is None:
        return
    run = journal.get("run")
    action = str(run.get("action")) if isinstance(run, dict) else ""
    said = (("action", action), ("phase", str(journal.get("phase"))))
    exposition.add("gauge", "praetor_lock_info", "What the run that holds the application is doing.", 1, label + said)
    text = "Time since which a run holds the application."
    exposition.add("gauge", "praetor_lock_since_timestamp_seconds", text, number(journal, "since"), label)


def add_freeze(app: str, directory: Path, exposition: Exposition) -> None:
    """Add whether releases are forbidden, from ``freeze.json``.

    Raises:
        OSError: it cannot be read.
        BrokenError: it is not what it should be.

    """
    label = (("app", app),)
    freeze = read_object(directory / "freeze.json")
    until = number(freeze, "until") if freeze else 0.0
    text = "Whether releases of the application are forbidden now."
    exposition.add("gauge", "praetor_frozen", text, until > time.time(), label)
    if until > time.time():
        text = "Time until which releases of the application are forbidden."
        exposition.add("gauge", "praetor_frozen_until_timestamp_seconds", text, until, label)


def add_count(app: str, directory: Path, exposition: Exposition) -> None:
    """Add how many releases lie on disk.

    Raises:
        OSError: they cannot be listed.

    """
    try:
        with scandir(directory / "releases") as items:
            count = sum(item.is_dir(follow_symlinks=False) for item in items)
    except FileNotFoundError:
        return
    exposition.add("gauge", "praetor_releases", "Releases on disk.", count, (("app", app),))


def add_missed(app: str, directory: Path, exposition: Exposition) -> None:
    """Add the runs of jobs that were missed while the host was off, from ``missed.json``.

    Raises:
        OSError: it cannot be read.
        BrokenError: it is not what it should be.

    """
    missed = read_object(directory / "missed.json") or {}
    for job in sorted(missed):
        # The name of its timer, as node_exporter calls it.
        labels = (("app", app), ("program", job), ("name", f"app-{app}-{job}.timer"))
        text = "Time at which a job should have run last, and the host was off."
        exposition.add("gauge", "praetor_job_missed_timestamp_seconds", text, number(missed, job), labels)
