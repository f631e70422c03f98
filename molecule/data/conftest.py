"""Each test is a step, in the order of the file, on the same hosts under the same load of numbered writes.

After each step every number that a client was told is written must be in the database that serves, unless the step says what may be gone.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from ledgers import Site, Step

STEPS: list[tuple[Step, float, bool]] = []


@pytest.fixture(scope="session")
def site() -> Iterator[Site]:
    """Return the hosts, under load until the last step is done."""
    found = Site()
    yield found
    found.close()


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Iterator[None]:
    """Make a step of each test."""
    site = pyfuncitem.funcargs["site"]
    assert isinstance(site, Site)
    step, began, well = site.begin(pyfuncitem.name.removeprefix("test_").replace("_", " ")), time.time(), False
    try:
        result = yield
        site.settle()
        well = True
    finally:
        STEPS.append((step, time.time() - began, well))
    return result


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the table."""
    if not STEPS:
        return
    write = terminalreporter.write_line
    write("")
    write(f"{'step':<38} {'requests':>8} {'failed':>6} {'acknowledged':>12} {'found':>6} {'seconds':>7}")
    for step, took, well in STEPS:
        write(
            f"{step.name[:38]:<38} {step.requests:>8} {step.failed:>6} {step.acknowledged:>12} {step.found:>6} {took:>7.1f}"
        )
        if not well:
            write("^ FAILED")
