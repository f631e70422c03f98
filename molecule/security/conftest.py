"""What all attacks share: the hosts, as the host tests know them, and the table that they end with.

Each file of tests is a kind of attack. A test calls `row(attack, expected, seen)`: it fails where the two differ, and the table has it either way.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

# By name alone: pytest refuses a plugin that was imported before it could rewrite its assertions.
pytest_plugins = ["hosts"]

Row = Callable[[str, str, str], None]
WIDTH = 76  # Molecule breaks what is wider
ROWS: dict[tuple[str, str, str], dict[str, str]] = defaultdict(dict)


@pytest.fixture(scope="session")
def outsider(pytestconfig: pytest.Config) -> Any:
    """Return the attacking host as root."""
    from hosts import hosts_of, inventory_of, reached  # noqa: PLC0415

    (found,) = hosts_of(inventory_of(pytestconfig), "outsiders").values()
    return reached(found)


@pytest.fixture(scope="session")
def hosts(fleet: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return all app hosts as root, for attacks on the fleet."""
    from hosts import reached  # noqa: PLC0415

    return {name: reached(each) for name, each in fleet.items()}


@pytest.fixture
def row(request: pytest.FixtureRequest) -> Row:
    """Return a judge: what an attack was, what must come of it (one thing, or one `or` another) and what did."""
    where = request.node.callspec.params.get("host_name", "") if hasattr(request.node, "callspec") else ""
    kind = Path(request.node.path).stem.removeprefix("test_").replace("_", " ")

    def judge(attack: str, expected: str, seen: str) -> None:
        seen = expected if seen in expected.split(" or ") else seen
        ROWS[kind, attack, expected][where] = seen
        assert seen == expected, attack

    return judge


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the table."""
    write = terminalreporter.write_line
    last = ""
    for (kind, attack, expected), seen in ROWS.items():
        if kind != last:
            write("")
            write(f"{kind.upper():<40} {'EXPECTED':<17} SEEN")
            last = kind
        said = sorted(set(seen.values()))
        text = said[0] if len(said) == 1 else ", ".join(f"{place}: {answer}" for place, answer in sorted(seen.items()))
        mark = "" if said == [expected] else "   <- BROKEN"
        write(f"{attack[:40]:<40} {expected[:17]:<17} {text[: WIDTH - 59]}{mark}")
    write("")
    broken = sum(set(seen.values()) != {expected} for (_, _, expected), seen in ROWS.items())
    write(f"{len(ROWS)} attacks, {broken} with another outcome than expected")
