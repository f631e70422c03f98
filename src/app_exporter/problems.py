"""What could not be read: counted, and told."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable


class BrokenError(ValueError):
    """Something that is read is not what it should be."""


def number(owner: dict[str, Any], key: str) -> float:
    """Take a number out of a JSON object.

    Raises:
        BrokenError: it is not there or not a number.

    """
    value = owner.get(key)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise BrokenError(f"{key} is {value!r}, not a number")
    return float(value)


class Problems:
    """What could not be read: counted for Prometheus by name, told to the log when it begins and when it ends."""

    MAX_NAMES = 1000

    def __init__(self) -> None:
        """Start with nothing wrong."""
        self.counts: dict[tuple[str, str, str], int] = {}
        self._now: dict[tuple[str, str, str], str] = {}
        self._before: dict[tuple[str, str, str], str] = {}

    def begin(self) -> None:
        """Start a scrape."""
        self._before, self._now = self._now, {}

    def note(self, app: str, source: str, item: str, why: str) -> None:
        """Count one thing that could not be read in this scrape."""
        why = why[:300]
        key = (app, source, item)
        if key not in self.counts and len(self.counts) >= self.MAX_NAMES:
            key = (app, source, "others")
        self.counts[key] = self.counts.get(key, 0) + 1
        if self._before.get(key) != why and key not in self._now:
            _log(f"{app}: {source} {item!r}: {why}")
        self._now[key] = why

    def end(self, apps: Iterable[str], slots: Iterable[str]) -> None:
        """End a scrape: forget the counts of slots and applications that are gone."""
        for app, source, item in self._before.keys() - self._now.keys():
            _log(f"{app}: {source} {item!r}: well again")
        known = set(apps)
        running = set(slots)
        for key in list(self.counts):
            slot = key[2].partition("/")[0].removesuffix(".metrics")
            gone = key[1] in {"stats", "metrics"} and slot != "others" and slot not in running
            if key not in self._now and (gone or key[0] not in known):
                del self.counts[key]

    def broken(self, app: str) -> int:
        """How many things of an application could not be read in this scrape."""
        return sum(key[0] == app for key in self._now)


def _log(line: str) -> None:
    """Tell the journal."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()
