"""The running releases of an application."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from app_exporter.problems import BrokenError

if TYPE_CHECKING:
    from pathlib import Path

    from app_exporter.exposition import Labels

MAX_SLOTS = 16

_APP_NAME = re.compile(r"[a-z][a-z0-9_]*", re.ASCII)
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
        """One of the slot's files, by suffix: ``sock``, ``stats``, ``metrics``, ``state``."""
        return self.directory / f"{self.name}.{suffix}"


class Live(NamedTuple):
    """What is live of an application."""

    slot: str  # its name
    since: float  # the time of the flip
    serves: bool  # whether it answers clients; processes and jobs alone do not


def live_slot(directory: Path) -> Live | None:
    """Find what is live; none before the first release.

    Raises:
        OSError: it cannot be read.

    """
    link = directory / "live.sock"
    try:
        target = link.readlink()
        return Live(target.stem, link.lstat().st_mtime, target.suffix == ".sock")
    except FileNotFoundError:
        return None


def is_app(name: str) -> bool:
    """Tell an application's directory from everything else that is there."""
    return _APP_NAME.fullmatch(name) is not None


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
