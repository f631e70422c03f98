"""Each test breaks one thing, waits until both receivers were told, and repairs it. The table at the end says how long it took."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from watch import ROWS, Lab


@pytest.fixture(scope="session")
def lab(pytestconfig: pytest.Config) -> Iterator[Lab]:
    """Return the hosts, with receivers on this machine."""
    found = Lab(pytestconfig.getoption("--ansible-inventory") or str(Path(__file__).parent / "inventory"))
    yield found
    found.receivers.stop()


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the table; in 76 columns, because Molecule breaks what is wider."""
    if not ROWS:
        return
    write = terminalreporter.write_line
    write("")
    write(f"{'broken':<27} {'alert':<18} {'at (UTC)':>8} {'fired':>6} {'webhook':>7} {'mail':>5}")
    for row in ROWS:
        at = datetime.fromtimestamp(row.at, tz=UTC).strftime("%H:%M:%S")
        seconds = f"{row.fired_s:>5.0f}s {row.webhook_s:>6.0f}s {row.mail_s:>4.0f}s"
        write(f"{row.what:<27} {row.alert:<18} {at:>8} {seconds}")
