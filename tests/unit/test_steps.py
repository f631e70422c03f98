"""The table that scenarios print of their steps."""

from __future__ import annotations

import pytest
from ledgers import Step as LedgerStep
from load import Record
from steps import WIDTH, Scene, Step, table


def record(took_s: float, wrong: str = "") -> Record:
    """Return a request that took so long."""
    return Record("get", "app1", 10.0, 10.0 + took_s, 500 if wrong else 200, "", wrong)


def test_a_step_is_told_by_its_requests_and_the_whole_by_those_of_all() -> None:
    first = Step("cable cut", 0, [record(0.01), record(0.02), record(3, "no answer")], ["no new connection for 2.9 s"])
    lines = table([(first, 12.4, True), (Step("reboot", 0, [record(0.5)]), 30, False)])
    assert [line.split() for line in lines] == [
        [],
        ["step", "requests", "failed", "p50", "ms", "p99", "ms", "max", "ms", "s"],
        ["cable", "cut", "3", "1", "20", "20", "20", "12"],
        ["no", "new", "connection", "for", "2.9", "s"],
        ["reboot", "1", "0", "500", "500", "500", "30"],
        ["^", "FAILED"],
        ["all", "steps", "4", "1", "20", "500", "500", "42"],
    ]


def test_a_scenario_has_its_own_columns() -> None:
    steps = [LedgerStep(name, 0, [record(0.1)], told={n, n + 1}, found={n}) for name, n in (("kill", 1), ("switch", 5))]
    _, head, *lines = table([(step, 1, True) for step in steps])
    assert head.split() == ["step", "requests", "failed", "max", "ms", "acknowledged", "found", "s"]
    assert [line.split()[-2:] for line in lines] == [["1", "1"], ["1", "1"], ["2", "2"]]
    assert lines[-1].split()[-3] == "4"


@pytest.mark.parametrize("kind", [Step, LedgerStep])
def test_no_line_is_wider_than_molecule_shows(kind: type[Step]) -> None:
    long = kind("failover, and the return of the old primary that was cut off", 0, [record(0.1)] * 100_000, ["n" * 200])
    lines = table([(long, 1234.0, True)])
    assert max(map(len, lines)) <= WIDTH
    assert lines[2].startswith("failover, and the return")


def test_without_steps_there_is_no_table() -> None:
    assert table([]) == []


def test_what_has_no_steps_is_no_scene() -> None:
    assert not isinstance(object(), Scene)
