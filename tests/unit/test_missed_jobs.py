"""Which jobs should have run while a host was off. systemd judges the calendar."""

import datetime as dt
import importlib.machinery
import importlib.util
import shutil
from pathlib import Path
from types import ModuleType

import pytest
from project import ROOT

OFF = dt.datetime(2026, 11, 26, 3, 0, 20, tzinfo=dt.UTC).timestamp()
ON = dt.datetime(2026, 11, 26, 5, 30, 0, tzinfo=dt.UTC).timestamp()

pytestmark = pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="this machine has no systemd-analyze")


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    loader = importlib.machinery.SourceFileLoader("missed_jobs", str(ROOT / "roles/flask_app/files/missed-jobs"))
    spec = importlib.util.spec_from_loader("missed_jobs", loader)
    assert spec
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    loader.exec_module(module)
    monkeypatch.setenv("TZ", "UTC")
    return module


def hour(text: str) -> float:
    return dt.datetime.fromisoformat(f"2026-11-26T{text}+00:00").timestamp()


@pytest.mark.parametrize(
    ("at", "last_run", "due"),
    [
        ("*-*-* 03:10", None, hour("03:10:00")),
        ("*-*-* 03:10", hour("03:10:00") - 86400, hour("03:10:00")),
        ("*-*-* 06:00", None, None),  # is to come
        ("*-*-* 02:30", None, None),  # was before
        ("hourly", hour("03:00:05"), hour("04:00:00")),  # ran just before the end, and then no more
        ("*-*-* 03:00", hour("03:00:05"), None),
        ("*-*-* 03:00", None, hour("03:00:00")),  # was waiting its random seconds when the host went off
        ("*-*-* 03:10", hour("05:40:00"), None),  # somebody has run it since
        ("minutely", None, hour("03:00:00")),
    ],
)
def test_a_job_is_missed_when_it_was_due_while_the_host_was_off(
    program: ModuleType, monkeypatch: pytest.MonkeyPatch, at: str, last_run: float | None, due: float | None
) -> None:
    monkeypatch.setattr(program, "journal", lambda *_: last_run)
    timer = f"[Timer]\nOnCalendar={at}\nPersistent=no\n"
    assert program.missed("app-api-cleanup", timer, OFF, ON) == due


@pytest.mark.parametrize(("at", "due"), [("*-*-* 03:10", None), ("*-*-* 06:10", hour("05:10:00"))])
def test_a_time_is_that_of_the_host(
    program: ModuleType, monkeypatch: pytest.MonkeyPatch, at: str, due: float | None
) -> None:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    monkeypatch.setattr(program, "journal", lambda *_: None)
    assert program.missed("app-api-cleanup", f"OnCalendar={at}\n", OFF, ON) == due


def test_what_is_made_up_for_is_not_missed(program: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(program, "journal", lambda *_: None)
    assert program.missed("app-api-cleanup", "OnCalendar=*-*-* 03:10\nPersistent=yes\n", OFF, ON) is None


def test_what_was_found_at_the_boot_before_is_forgotten(
    program: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(program, "APPS", tmp_path / "apps")
    monkeypatch.setattr(program, "UNITS", tmp_path / "units")
    monkeypatch.setattr(program, "booted", lambda: ON)
    monkeypatch.setattr(program, "journal", lambda *asked: OFF if asked == ("--boot=-1",) else None)
    (tmp_path / "apps/shop").mkdir(parents=True)
    (tmp_path / "units").mkdir()
    timer = tmp_path / "units/app-shop-cleanup.timer"
    timer.write_text("OnCalendar=*-*-* 03:10\nPersistent=no\n", encoding="utf-8")
    program.main()
    assert (tmp_path / "apps/shop/missed.json").read_text() == f'{{"cleanup": {hour("03:10:00")}}}\n'
    timer.unlink()
    program.main()
    assert (tmp_path / "apps/shop/missed.json").read_text() == "{}\n"
