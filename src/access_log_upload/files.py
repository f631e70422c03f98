"""The access log of one site, read over its rotations: each line once, from where reading stopped before.

A file is known by its first line, which has the time and the id of a request: that stays when a file is renamed or compressed.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import time
import zlib
from io import FileIO
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

SUFFIX = ".access.log"
MAX_BYTES = 1 << 20  # of a batch; longer than any line of NGINX
QUIET_S = 10  # NGINX's workers write to a rotated file until each has opened the new one
Opened = gzip.GzipFile | FileIO
_ROTATED = re.compile(r"|\.(\d+)(?:\.gz)?")


def site_of(path: Path) -> str:
    """The app whose access log a file is; empty if it is none's."""
    name, found, rotated = path.name.partition(SUFFIX)
    return name if found and _ROTATED.fullmatch(rotated) else ""


class AccessLog:
    """What is still to be sent of a site's access log."""

    def __init__(self, directory: Path, name: str, first: str = "", offset: int = 0) -> None:
        """Go on behind `offset` bytes of the file whose first line is `first`; at the oldest file where that is empty."""
        self.path = directory / f"{name}{SUFFIX}"
        self.first, self.offset = first, offset
        self._file: Opened | None = None
        self._seen: tuple[int, bool] | None = (
            None  # when the directory was looked through, which takes longer than a look at a file
        )

    def skip(self) -> None:
        """Leave out all that there is."""
        for path in reversed(self._paths()):
            with _opened(path) as file:
                if first := _first(file):
                    self.first, self.offset = first, file.seek(0, os.SEEK_END)
                    return

    def lines(self) -> bytes:
        """Whole lines that were not sent yet, `MAX_BYTES` at the most; empty when there are none.

        Raises:
            OSError: they cannot be read.
        """
        file = self._file or self._open(self._place())
        while file:
            if found := self._read(file):
                return found
            file = self._open(self._place() + 1) if self._is_left(file) else None
        return b""

    def sent(self, lines: bytes) -> None:
        """Go on behind these."""
        self.offset += len(lines)

    def close(self) -> None:
        """Let go of the file."""
        if self._file:
            self._file.close()
            self._file = None

    def _paths(self) -> list[Path]:
        """The files that there are, the oldest first; one that is just being compressed is there twice, and taken as it was."""
        found: dict[int, Path] = {}
        for path in sorted(self.path.parent.glob(f"{self.path.name}*"), reverse=True):
            rotated = _ROTATED.fullmatch(path.name.removeprefix(self.path.name))
            if rotated:
                found[int(rotated[1] or 0)] = path
        return [found[number] for number in sorted(found, reverse=True)]

    def _place(self) -> int:
        """Where the file that was read last stands among those that there are; before the first if it is gone, or was never there."""
        for place, path in enumerate(self._paths()):
            with _opened(path) as file:
                if self.first and _first(file) == self.first:
                    return place
        return -1

    def _open(self, place: int) -> Opened | None:
        """Open the file of a place, or the first one behind it that has lines."""
        for path in self._paths()[max(place, 0) :]:
            file = _opened(path)
            if first := _first(file):
                self.close()
                self._file, self._seen = file, None
                if first != self.first:
                    self.first, self.offset = first, 0
                return file
            file.close()
        return None

    def _read(self, file: Opened) -> bytes:
        try:
            if os.fstat(file.fileno()).st_size < self.offset and not isinstance(file, gzip.GzipFile):
                self.offset = 0  # emptied in its place
            if not self.offset:
                file.seek(0)
                self.first = _first(file)
            file.seek(self.offset)
            data = file.read(MAX_BYTES)
            if isinstance(file, gzip.GzipFile):
                data += file.readline()  # to go back means to start again at the beginning
        except (EOFError, gzip.BadGzipFile, zlib.error):
            return b""  # just being compressed, or broken for good
        end = data.rfind(b"\n") + 1
        return data[:end] if end or len(data) < MAX_BYTES else data

    def _is_left(self, file: Opened) -> bool:
        """Whether nothing more will be written to a file, and there may be another one with lines."""
        state = os.fstat(file.fileno())
        try:
            current = self.path.stat()
        except FileNotFoundError:
            return False  # just being rotated, or removed
        if current.st_ino == state.st_ino or time.time() - state.st_mtime <= QUIET_S:
            return False
        seen = (self.path.parent.stat().st_mtime_ns, current.st_size > 0)
        is_new, self._seen = seen != self._seen, seen
        return is_new


def _opened(path: Path) -> Opened:
    if path.suffix == ".gz":
        return gzip.open(path)
    return FileIO(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC))


def _first(file: Opened) -> str:
    """What a file is known by; empty as long as it has no whole line."""
    try:
        line, end, _ = file.read(4096).partition(b"\n")
    except (EOFError, gzip.BadGzipFile, zlib.error):
        return ""
    return hashlib.sha256(line[:1024]).hexdigest() if end or len(line) >= 1024 else ""
