"""Jobs are scheduled as the live release says, on the hosts that are to run them, and their ends are found in systemd's own messages."""

from __future__ import annotations

from typing import Any, cast

import pytest
from fakes import Units, manifest_of, put_release, put_slot

from praetor.documents import Job, Place
from praetor.host import jobs, processes
from praetor.host.layout import AppHost, ReleaseError
from praetor.host.processes import ALONE, share_of
from praetor.inventory.model import _at_problem

AWAY: Place = {"index": 1, "hosts": 2, "held": ["cleanup"], "takes": False}


def job(name: str = "cleanup", **changes: Any) -> Job:
    found: Any = {"name": name, "command": ["true"], "at": "hourly", "on": "once", "timeout_s": 60, "catch_up": False}
    return cast("Job", {**found, **changes})


def released(host: AppHost, release: str, number: int, *found: Job) -> None:
    """Make a release live that has these jobs."""
    put_release(host, release, settings={**manifest_of(release)["settings"], "jobs": list(found)})
    host.flip(put_slot(host, release, number))


def scheduled(host: AppHost) -> dict[str, str]:
    return {path.name: path.read_text("utf-8").strip() for path in host.layout.units.glob("app-api-*")}


def test_what_is_live_is_scheduled_and_nothing_else(host: AppHost, units: Units) -> None:
    released(host, "1-a", 1, job(), job("report", at="daily"))
    jobs.put(host, {"cleanup": 1, "report": 1})
    assert scheduled(host) == {
        "app-api-cleanup.service": "# Release: 1-a",
        "app-api-cleanup.timer": "OnCalendar=hourly",
        "app-api-report.service": "# Release: 1-a",
        "app-api-report.timer": "OnCalendar=daily",
    }
    released(host, "2-b", 2, job(at="weekly"))
    jobs.put(host, {"cleanup": 1})
    assert scheduled(host) == {
        "app-api-cleanup.service": "# Release: 2-b",
        "app-api-cleanup.timer": "OnCalendar=weekly",
    }
    boot = host.layout.units / "timers.target.wants"
    assert [link.name for link in boot.iterdir()] == ["app-api-cleanup.timer"]
    # What runs at this moment is not touched: only timers are asked for anything.
    assert not [asked for asked in units.asked if any(word.endswith(".service") for word in asked)]


def test_a_second_time_changes_nothing(host: AppHost, units: Units) -> None:
    released(host, "1-a", 1, job())
    jobs.put(host, {"cleanup": 1})
    units.asked.clear()
    jobs.put(host, {"cleanup": 1})
    assert units.asked == []


def test_a_host_that_is_not_to_run_it_has_no_timer(host: AppHost) -> None:
    released(host, "1-a", 1, job(), job("rotate", on="each"))
    wanted = share_of(host.manifest("1-a"), {}, AWAY)
    assert wanted == {"cleanup": 0, "rotate": 1}
    assert share_of(host.manifest("1-a"), {}, ALONE) == {"cleanup": 1, "rotate": 1}
    jobs.put(host, wanted)
    assert sorted(scheduled(host)) == ["app-api-rotate.service", "app-api-rotate.timer"]
    assert jobs.are_current(host, wanted)
    assert not jobs.are_current(host, {"cleanup": 1, "rotate": 1})


def test_removal_leaves_no_timer(host: AppHost) -> None:
    released(host, "1-a", 1, job())
    jobs.put(host, {"cleanup": 1})
    host.live_link.unlink()
    processes.end_all(host)
    assert scheduled(host) == {}


def test_a_job_that_runs_does_not_move(host: AppHost, units: Units, monkeypatch: pytest.MonkeyPatch) -> None:
    released(host, "1-a", 1, job())
    jobs.put(host, {"cleanup": 1})
    units.known["app-api-cleanup.service"] = {"ActiveState": "activating", "Result": "success"}
    monkeypatch.setattr(processes, "AppHost", lambda _: host)
    with pytest.raises(ReleaseError, match="job cleanup runs on this host at this moment"):
        processes.work(app="api", process="cleanup", count=0)


def test_systemds_messages_are_the_history() -> None:
    def said(kind: str, at: int, run: str, **more: str) -> dict[str, Any]:
        found = {"MESSAGE_ID": kind, "UNIT": "app-api-cleanup.service", "INVOCATION_ID": run, **more}
        return {**found, "__REALTIME_TIMESTAMP": str(at * 1_000_000)}

    found = jobs.ended(
        "api",
        [
            said(jobs._BEGAN, 10, "a"),
            said(jobs._DONE, 12, "a"),
            said(jobs._BEGAN, 70, "b"),
            said(jobs._FAILED, 75, "b", UNIT_RESULT="timeout"),
            said(jobs._BEGAN, 130, "c"),
        ],
    )
    assert [(each["result"], each["why"], each["duration_s"]) for each in found] == [
        ("ok", "cleanup", 2.0),
        ("failed", "cleanup: timeout", 5.0),
    ]
    assert found[0]["ts"] == "1970-01-01T00:00:12Z"


@pytest.mark.parametrize(
    "at",
    [
        "hourly",
        "daily UTC",
        "*-*-* 03:10",
        "Mon *-*-* 03:10:00",
        "Mon..Fri 12:00",
        "*:0/15",
        "2027-01-01",
        "03:10 Europe/Berlin",
        "*-*~1 04:00",
    ],
)
def test_times_of_systemd_are_taken(at: str) -> None:
    assert _at_problem(at) is None


@pytest.mark.parametrize(
    "at", ["", "3 o'clock", "every day", "0 3 * * *", "@daily", "03:10 am", " 03:10", "monday at 3"]
)
def test_other_times_are_refused(at: str) -> None:
    assert _at_problem(at) is not None


def not_asked(*_: str) -> list[dict[str, str]]:
    raise AssertionError("systemd was asked")


def test_systemd_is_asked_only_where_there_are_jobs_or_processes(
    host: AppHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "show", not_asked)
    monkeypatch.setattr(processes, "show", not_asked)
    assert (jobs.look(host), processes.look(host)) == ([], [])
