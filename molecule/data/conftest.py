"""Each test is a step, in the order of the file, on the same hosts under the same load of numbered writes.

After each step every number that a client was told is written must be in the database that serves, unless the step says what may be gone.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from ledgers import Site
from steps import pytest_pyfunc_call, pytest_terminal_summary

__all__ = ["pytest_pyfunc_call", "pytest_terminal_summary"]


@pytest.fixture(scope="session")
def site() -> Iterator[Site]:
    """Return the hosts, under load until the last step is done."""
    found = Site()
    yield found
    found.close()
