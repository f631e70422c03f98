"""What is on the host: applications, their slots, their releases."""

from __future__ import annotations

import json
import os
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from app_exporter.problems import BrokenError

if TYPE_CHECKING:
    from pathlib import Path

    from app_exporter.exposition import Exposition, Labels

HISTORY_TAIL_BYTES = 64 << 10
MAX_SLOTS = 16

_SLOT_NAME = re.compile(r"(?P<app>[a-z][a-z0-9_]*)\.(?P<release>[A-Za-z0-9.+_!~-]+)\.[0-9]+", re.ASCII)


class Slot(NamedTuple):
    """A running release of an application: its names and the directory that its files are in."""

    app: str
    release: str
    name: str
    directory: Path

    @property
    def labels(self) -> Labels:
        """Labels of everything that belongs to the slot."""
        return (("app", self.app), ("release", self.release), ("slot", self.name))

    def path(self, suffix: str) -> Path:
        """One of the slot's files, by suffix: ``sock``, ``stats``, ``metrics``."""
        return self.directory / f"{self.name}.{suffix}"


def last_line(path: Path) -> bytes:
    """Read a file's last complete line; a line that is still being written has no newline yet."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - HISTORY_TAIL_BYTES))
        lines = file.read().split(b"\n")
    return lines[-2] if len(lines) > 1 else b""


def timestamp(value: Any) -> float:
    """Read a time: seconds since 1970, or ISO 8601.

    Raises:
        BrokenError: it is neither.

    """
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, str):
        parsed = datetime.fromisoformat(value)
        return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp()
    raise BrokenError(f"{value!r} is no time")


def add_history(app: str, directory: Path, exposition: Exposition) -> None:
    """Add the result of the last change of an application's releases.

    Raises:
        OSError: the history cannot be read.
        BrokenError: its last line is not what it should be.

    """
    try:
        line = last_line(directory / "history.jsonl")
    except FileNotFoundError:
        return  # nothing was released yet
    if not line:
        return
    entry = json.loads(line)
    if not isinstance(entry, dict):
        raise BrokenError("its last line is not an object")
    label = (("app", app),)
    result = str(entry.get("result"))
    ended, took = timestamp(entry.get("ts")), entry.get("duration_s")
    said = tuple((key, str(entry.get(key) or "")) for key in ("action", "from", "to"))
    info = (*label, *said, ("result", result))
    exposition.add("gauge", "praetor_deploy_last_info", "The last release or rollback, in its labels.", 1, info)
    text = "Whether the last release or rollback did what it should."
    exposition.add("gauge", "praetor_deploy_last_success", text, result in {"ok", "success"}, label)
    text = "Time of the last release or rollback."
    exposition.add("gauge", "praetor_deploy_last_timestamp_seconds", text, ended, label)
    if isinstance(took, (int, float)):
        text = "How long the last release or rollback took."
        exposition.add("gauge", "praetor_deploy_last_duration_seconds", text, took, label)


def live_slot(directory: Path) -> tuple[str, float] | None:
    """Find the slot that clients reach, and since when; none before the first release.

    Raises:
        OSError: it cannot be read.

    """
    link = directory / "live.sock"
    try:
        return link.readlink().name.removesuffix(".sock"), link.lstat().st_mtime
    except FileNotFoundError:
        return None


def release_of(slot: str, app: str) -> str:
    """Take the release out of a slot's name; empty if it is none of the application's."""
    found = _SLOT_NAME.fullmatch(slot)
    return found["release"] if found and found["app"] == app else ""


def find_slots(run: Path, app: str) -> list[Slot]:
    """Find an application's slots by the files that they keep.

    Raises:
        OSError: the application's directory cannot be read.
        BrokenError: there are more than a release ever makes; the directory is the application's own.

    """
    try:
        names = [item.name for item in (run / app).iterdir()]
    except (FileNotFoundError, NotADirectoryError):
        return []
    stems = {stem for stem, _, end in (name.rpartition(".") for name in names) if end in {"sock", "stats", "metrics"}}
    slots = [Slot(app, release_of(stem, app), stem, run / app) for stem in sorted(stems) if release_of(stem, app)]
    if len(slots) > MAX_SLOTS:
        raise BrokenError(f"{len(slots)} slots; a release makes two")
    return slots
