"""Hooks for a scenario whose tests are steps, in the order of the file, on the same hosts under the same load; its conftest.py takes them.

After each step, whatever it was about: no request was lost, nothing served that should not, every host serves the same release and is clean.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from fleet import Fleet, Step

STEPS: list[tuple[Step, float, bool]] = []


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Iterator[None]:
    """Make a step of each test."""
    fleet = pyfuncitem.funcargs["fleet"]
    assert isinstance(fleet, Fleet)
    step, well = fleet.begin(pyfuncitem.name.removeprefix("test_").replace("_", " ")), False
    try:
        result = yield
        fleet.end()
        well = True
    except AssertionError as error:
        # Now and not at the end only: the steps take minutes.
        print(f"\n{str(error)[-4000:]}")
        raise
    finally:
        step.records += fleet.load.take()
        STEPS.append((step, time.time() - step.began, well))
    return result


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the table; in 76 columns, because Molecule breaks what is wider."""
    if not STEPS:
        return
    write = terminalreporter.write_line
    write("")
    write(f"{'step':<32} {'requests':>8} {'failed':>6} {'p50 ms':>6} {'p99 ms':>6} {'max ms':>6} {'s':>5}")
    for step, took, well in STEPS:
        _line(write, step, took)
        for note in step.notes:
            write(f"  {note}"[:76])
        if not well:
            write("^ FAILED")
    everything = Step("all steps", 0, set(), [record for step, _, _ in STEPS for record in step.records])
    _line(write, everything, sum(took for _, took, _ in STEPS))


def _line(write: Any, step: Step, took: float) -> None:
    times = sorted(record.latency_s * 1000 for record in step.records if not record.wrong) or [0.0]
    p50, p99 = (times[int(len(times) * share)] for share in (0.5, 0.99))
    seen = f"{len(step.records):>8} {len(step.failed()):>6} {p50:>6.0f} {p99:>6.0f} {times[-1]:>6.0f}"
    write(f"{step.name[:32]:<32} {seen} {took:>5.0f}")
