"""Hooks for a scenario whose tests are steps, in the order of the file, on the same hosts under the same load; its conftest.py takes them.

What a step is held to when it ends is the scenario's own matter, and so are the columns that tell of it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, Self, runtime_checkable

import pytest
from load import Record

WIDTH = 76
"""Molecule breaks what is wider."""
NUMBER = 6


@dataclass
class Step:
    """One step: what clients saw while it lasted."""

    name: str
    began: float
    records: list[Record] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # for the table

    def failed(self) -> list[Record]:
        """The requests that were not answered as they must be."""
        return [record for record in self.records if record.wrong]

    def latencies_ms(self) -> list[float]:
        """How long the answered requests took, the quickest first."""
        return sorted(record.latency_s * 1000 for record in self.records if not record.wrong) or [0.0]

    def cells(self) -> dict[str, int]:
        """Return its numbers by the columns of the table."""
        times = self.latencies_ms()
        p50, p99 = (times[int(len(times) * share)] for share in (0.5, 0.99))
        return {
            "requests": len(self.records),
            "failed": len(self.failed()),
            "p50 ms": round(p50),
            "p99 ms": round(p99),
            "max ms": round(times[-1]),
        }

    @classmethod
    def of_all(cls, steps: Sequence[Self]) -> Self:
        """Return all steps as one."""
        return cls("all steps", 0, [record for step in steps for record in step.records])


@runtime_checkable
class Scene(Protocol):
    """The hosts of a scenario under load; the fixture that every step takes."""

    def begin(self, name: str) -> Step:
        """Begin a step."""

    def end(self) -> None:
        """End it: nothing may be lost or left."""

    def collect(self) -> list[Record]:
        """Return the step's requests so far."""


STEPS: list[tuple[Step, float, bool]] = []


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Iterator[None]:
    """Make a step of each test."""
    (scene,) = (value for value in pyfuncitem.funcargs.values() if isinstance(value, Scene))
    step, began, well = scene.begin(pyfuncitem.name.removeprefix("test_").replace("_", " ")), time.time(), False
    try:
        result = yield
        scene.end()
        well = True
    except AssertionError as error:
        # Now and not at the end only: the steps take minutes.
        print(f"\n{str(error)[-4000:]}")
        raise
    finally:
        scene.collect()
        STEPS.append((step, time.time() - began, well))
    return result


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the table."""
    for line in table(STEPS):
        terminalreporter.write_line(line)


def table(steps: Sequence[tuple[Step, float, bool]]) -> list[str]:
    """Return the lines of the table: each step with its seconds and whether it went well, then all as one."""
    if not steps:
        return []
    columns = list(steps[0][0].cells())
    wide = WIDTH - sum(max(len(column), NUMBER) + 1 for column in [*columns, "s"])

    def line(name: str, cells: Sequence[str]) -> str:
        numbers = [f"{cell:>{max(len(column), NUMBER)}}" for column, cell in zip([*columns, "s"], cells, strict=True)]
        return " ".join([f"{name[:wide]:<{wide}}", *numbers])

    def numbers(step: Step, took: float) -> str:
        return line(step.name, [*map(str, step.cells().values()), f"{took:.0f}"])

    lines = ["", line("step", [*columns, "s"])]
    for step, took, well in steps:
        lines.append(numbers(step, took))
        lines += [f"  {note}"[:WIDTH] for note in step.notes]
        lines += [] if well else ["^ FAILED"]
    every = [step for step, _, _ in steps]
    return [*lines, numbers(type(every[0]).of_all(every), sum(took for _, took, _ in steps))]
