"""Freezes: until when, and why."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fakes import host_in
from project import imported

from praetor.host import freeze
from praetor.host.journal import frozen
from praetor.host.layout import AppHost, ReleaseError

NOW = datetime(2026, 12, 1, 12, tzinfo=UTC)
ASKED: Any = {"app": "api", "until_time": "+2h", "reason": "sale", "by": "ann", "thaw": False, "check": False}


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AppHost:
    """Return the app's host."""
    found = host_in(tmp_path)
    monkeypatch.setattr(freeze, "AppHost", lambda _: found)
    return found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("+90m", NOW + timedelta(minutes=90)),
        ("+3d", NOW + timedelta(days=3)),
        ("2026-12-24T18:00", datetime(2026, 12, 24, 18, tzinfo=UTC)),
        ("2026-12-24T18:00+01:00", datetime(2026, 12, 24, 17, tzinfo=UTC)),
    ],
)
def test_a_time_is_absolute_or_from_now(text: str, expected: datetime) -> None:
    assert freeze.moment(text, NOW) == expected


def test_frozen_and_thawed(host: AppHost) -> None:
    assert freeze.work(**ASKED)["changed"] is True
    found = frozen(host)
    assert found is not None
    assert (found["reason"], found["by"]) == ("sale", "ann")
    assert freeze.work(**{**ASKED, "thaw": True}) == {"changed": True}
    assert frozen(host) is None
    assert freeze.work(**{**ASKED, "thaw": True}) == {"changed": False}


def test_a_check_only_says(host: AppHost) -> None:
    assert freeze.work(**{**ASKED, "check": True})["changed"] is True
    assert frozen(host) is None
    freeze.work(**ASKED)
    assert freeze.work(**{**ASKED, "thaw": True, "check": True}) == {"changed": True}
    assert frozen(host) is not None


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"until_time": "soon"}, "until_time=soon: expected a time such as"),
        ({"until_time": "2020-01-01"}, "until_time=2020-01-01: that is over already"),
        ({"reason": " "}, "reason is missing"),
    ],
)
def test_what_is_wrong_is_said(host: AppHost, wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ReleaseError, match=message):
        freeze.work(**{**ASKED, **wrong})
    assert frozen(host) is None


@pytest.mark.parametrize("checking", [True, False])
def test_the_task_says_whether_it_is_a_check(monkeypatch: pytest.MonkeyPatch, *, checking: bool) -> None:
    kind = imported("plugins/action/app_freeze.py").ActionModule
    monkeypatch.setattr(kind, "on_host", lambda _, params: params)
    action = object.__new__(kind)
    action._task = SimpleNamespace(check_mode=checking)
    assert action.do({"app": "api"}) == {"app": "api", "check": checking}
