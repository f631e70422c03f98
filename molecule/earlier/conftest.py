"""Each test is a step, in the order of the file, on the same hosts under the same load."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from earlier import Earlier
from steps import pytest_pyfunc_call, pytest_terminal_summary

__all__ = ["pytest_pyfunc_call", "pytest_terminal_summary"]


@pytest.fixture(scope="session")
def fleet() -> Iterator[Earlier]:
    """Return the hosts, under load until the last step is done."""
    found = Earlier()
    yield found
    found.close()
