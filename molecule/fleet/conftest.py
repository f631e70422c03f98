"""Each test is a step, in the order of the file, on the same hosts and balancers under the same load."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from balanced import Balanced
from hosts import inventory_of
from steps import pytest_pyfunc_call, pytest_terminal_summary

__all__ = ["pytest_pyfunc_call", "pytest_terminal_summary"]


@pytest.fixture(scope="session")
def fleet(pytestconfig: pytest.Config) -> Iterator[Balanced]:
    """Return the hosts, under load until the last step is done."""
    found = Balanced(inventory_of(pytestconfig))
    yield found
    found.close()
