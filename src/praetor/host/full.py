"""Finds out whether a file system has no room left, and names it. Runs on hosts; the controller asks a host with `work`."""

from __future__ import annotations

import os
import pathlib

from .keep import FULL_ERRORS
from .layout import ReleaseError


class FullError(ReleaseError):
    """A file system has no room. `place` goes to the controller with the answer, which says what to do about it: `praetor.run.on_host`."""

    def __init__(self, place: pathlib.Path, doing: str) -> None:
        """Say how little room the place has now, before a cleanup makes some."""
        super().__init__(f"{_missing(place)} while {doing}; what is live goes on serving.")
        self.place = str(place)


def is_full(error: OSError) -> bool:
    """Whether an error is one of a disk that is full, or of a user's share of it."""
    return error.errno in FULL_ERRORS


def says_full(printed: str) -> bool:
    """Whether a program ended because a disk was full, by what it printed: the one place where this is read from a text.

    A program's exit status does not tell. Programs in C print the C library's words, which are English where LANG says nothing else; those in Rust add the number.
    """
    return any(os.strerror(code) in printed or f"os error {code}" in printed for code in FULL_ERRORS)


def has_room(place: pathlib.Path, size: int) -> bool:
    """Whether a file of so many bytes fits next to a place, which need not be there yet."""
    while not place.exists():
        place = place.parent
    found = os.statvfs(place)
    # Some file systems, as btrfs, count no inodes.
    return found.f_bavail * found.f_frsize >= size and (found.f_favail > 0 or found.f_files == 0)


def work(*, place: str, size: int) -> dict[str, str]:
    """What `praetor.host.call` answers to the controller, which failed to bring a file: `full`, the place, if there is no room for it."""
    target = pathlib.Path(place)
    if has_room(target, size):
        return {}
    return {"full": place, "reason": f"no room for an upload of {size} bytes to {place}; what is live goes on serving."}


def _missing(path: pathlib.Path) -> str:
    room = os.statvfs(path)
    what = "inodes" if room.f_files and room.f_favail == 0 else "space"
    return f"no {what} left on the file system of {path} ({room.f_bavail * room.f_frsize // 2**20} MiB, {room.f_favail} inodes free)"
