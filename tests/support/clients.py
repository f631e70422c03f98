"""The clients of a scenario: what they ask all the time, and what they may see while a step lasts."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import steps
from load import Record
from variants import HERE, SCENARIO, SITE, Variant


@dataclass
class Step(steps.Step):
    """One step: what may be seen while it lasts, and what was."""

    served: set[str] = field(default_factory=set)  # how the X-Sample of everything that may serve begins
    excuses: list[Callable[[Record], bool]] = field(default_factory=list)

    def may_serve(self, variant: Variant) -> None:
        """Allow a variant to answer clients."""
        self.served.add(variant.prefix)

    def excuse(self, excused: Callable[[Record], bool]) -> None:
        """Allow requests to fail that cannot but fail."""
        self.excuses.append(excused)

    def violations(self) -> list[str]:
        """What clients saw that they should not have seen."""
        found = [
            f"{record.kind} on {record.host} at {record.ended - self.began:.2f} s: {record.wrong} ({record.said})"
            for record in self.failed()
            if not any(excused(record) for excused in self.excuses)
        ]
        may = tuple(self.served)
        strange = {
            f"{record.host}: {record.said}"
            for record in self.records
            if record.said and not record.said.startswith(may)
        }
        return found + [f"answered by what should not serve: {said}" for said in sorted(strange)]


class Load:
    """The load generator, a separate process, and what it has written so far."""

    def __init__(self, kind: str, authority: str, places: dict[str, str]) -> None:
        """Start the clients of one kind of LANES at each of some addresses."""
        self.path = Path(tempfile.mkstemp(prefix="load-", suffix=".csv")[1])
        with self.path.open("w") as out:
            asked = [f"{name}={address}" for name, address in places.items()]
            command = [sys.executable, str(HERE / "load.py"), kind, SITE, authority, *asked]
            environment = {**os.environ, "PYTHONPATH": str(SCENARIO.parent / "client")}
            self.process = subprocess.Popen(command, stdout=out, env=environment)
        self.offset = 0

    def take(self) -> list[Record]:
        """The requests that have ended since this was last asked."""
        assert self.process.poll() is None, "the load generator has died"
        with self.path.open(encoding="utf-8", newline="") as lines:
            lines.seek(self.offset)
            text = lines.read()
        whole = text[: text.rfind("\n") + 1]
        self.offset += len(whole.encode())
        return Record.read(whole)

    def stop(self) -> None:
        """End it."""
        self.process.terminate()
        self.process.wait(60)
