"""What operators read: 80 columns, the same said once, and a mark at what differs."""

from __future__ import annotations

import re
from typing import Any

from praetor.run import printed, tables

OLD, NEW = "1.0.0-11111111", "1.1.0-22222222"
LONG = "2026.11.26.dev1234+g0123456789ab-33333333"


def entry(second: int, result: str = "ok", **more: Any) -> dict[str, Any]:
    """Return an event as a host's history has it."""
    event = {"ts": f"2026-11-26T09:40:{second:02}Z", "action": "release", "from": OLD, "to": NEW, "result": result}
    return {**event, "by": "ann@desk", "why": "", "duration_s": 3.5 + second, "run": "20261126T094000Z-aa", **more}


def past(**histories: list[dict[str, Any]]) -> Any:
    """Return surveys of hosts with nothing but the histories of their app."""
    return {
        host: {
            "apps": {
                "api": {
                    "history": events,
                    "live": NEW,
                    "made_live_by": "x",
                    "journal": None,
                    "leftovers": [],
                    "processes": [],
                    "jobs": [],
                    "frozen": None,
                    "manifest": None,
                    "outdated": [],
                    "settled": True,
                }
            }
        }
        for host, events in histories.items()
    }


def fleet(count: int, **odd: Any) -> Any:
    """Return surveys of hosts of which the third is as `odd` says."""
    found = past(**{f"app{number:02}": [] for number in range(1, count + 1)})
    for number, survey in enumerate(found.values()):
        state = survey["apps"]["api"]
        state |= {"provisioned": True, "running": True, "health": "healthy", "workers": 2, "busy": number % 3}
        state |= {"since": f"2026-11-26T09:40:{number:02}Z", "path": "/", "slot": f"api.{NEW}.1", "share": {}}
        if number == 2:
            state |= odd
    return found


def test_what_a_run_did_on_several_hosts_is_one_row_with_who_and_from_where() -> None:
    said = printed.text("history", past(app1=[entry(1)], app2=[entry(3, run="20261126T094000Z-aa")]))
    assert said.splitlines() == [
        "WHEN              APP  ACTION   TO              S    HOSTS",
        f"2026-11-26 09:40  api  release  {NEW}  6.5  app1, app2",
        f"    from {OLD} by ann@desk",
    ]


def test_runs_that_differ_in_anything_keep_a_row_each() -> None:
    for other in ({"run": "20261126T095000Z-bb"}, {"why": "fix"}, {"by": "bob@desk"}, {"to": OLD}):
        assert printed.text("history", past(app1=[entry(1)], app2=[entry(1, **other)])).count("2026-11-26") == 2


def test_what_did_not_go_well_is_marked_and_says_why_in_full() -> None:
    reason = "the gate failed: " + "sqlalchemy said a lot about a table, " * 2
    said = printed.text("history", past(app1=[entry(1)], app2=[entry(1, "failed", reason=reason)])).splitlines()
    assert [line[0] for line in said if "09:40" in line] == [" ", "!"]
    assert "release failed" in next(line for line in said if line.startswith("!"))
    assert " ".join(" ".join(said).split()).endswith(reason.strip()[:100].strip())


def test_no_line_of_a_table_is_wider_than_80_columns_and_nothing_that_tells_releases_apart_is_cut() -> None:
    host = "a-host-with-a-long-name.in.a.zone.example.org"
    events = [entry(1, "failed", to=LONG, action="rollback", why="because " * 20, reason="x" * 90 + " y")]
    surveys = past(**{host: events})
    surveys[host]["apps"] = {"an_app_whose_name_is_of_31_chars": surveys[host]["apps"]["api"]}
    said = printed.text("history", surveys).splitlines()
    assert max(map(len, said)) <= 96, said  # a word longer than a line stays whole
    assert sum(len(line) > 80 for line in said) == 1
    assert any("33333333" in line for line in said)
    assert any(host in line for line in said)


def test_the_status_of_few_hosts_has_a_row_for_each_and_marks_the_one_that_differs() -> None:
    said = printed.text("status", fleet(3, live=OLD)).splitlines()
    assert [line.split()[0] for line in said[1:4]] == ["app01", "app02", "!"]
    assert "(1 busy)" in said[2]
    assert not any(line.startswith("!") for line in printed.text("status", fleet(3)).splitlines())


def test_of_many_hosts_those_that_are_alike_share_a_row_and_one_that_is_not_stands_out() -> None:
    said = printed.text("status", fleet(40, health="/health/ready answers 503")).splitlines()
    assert len([line for line in said if NEW in line]) == 2
    [odd] = [line for line in said if line.startswith("!")]
    assert "app03" in odd
    assert "/health/ready answers 503" in " ".join(said)
    assert "app01 and 38 more" in "\n".join(said)


def test_what_is_to_be_noted_of_many_hosts_is_one_note() -> None:
    surveys = fleet(40)
    for survey in surveys.values():
        survey["apps"]["api"]["frozen"] = {"by": "ann@desk", "reason": "sale"}
    notes = [line for line in printed.text("status", surveys).splitlines() if "frozen" in line]
    assert notes == ["app01, app02, app03, app04, app05 and 35 more: api is frozen by ann@desk: sale"]


def test_a_table_without_limits_is_set_in_columns() -> None:
    rows: list[tables.Row] = [{"host": "web1", "n": 1}, {"host": "x", "n": 10}]
    assert printed.render(rows) == "HOST  N\nweb1  1\nx     10"
    assert printed.render([]) == "(nothing)"


def test_status_says_which_version_shows_it_and_other_tables_do_not() -> None:
    assert re.search(r"\nPraetor \d+\.\d+\.\d+$", printed.text("status", {}))
    assert printed.text("history", {}) == "(nothing)"


def test_each_table_has_rows_for_programs_and_lines_for_people() -> None:
    assert set(tables.TABLES) == set(printed.PRINTED)
