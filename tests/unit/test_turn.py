"""One run at a time takes hosts out: who comes second is told who has the turn, and that of a dead run is taken over."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from praetor.host import call, turn
from praetor.run.owner import process_start, start_of_playbook, until_locked

if TYPE_CHECKING:
    from praetor.documents import PhaseAnswer, Run


def run_of(pid: int) -> Run:
    """Return a run of maintain.yml that a process makes."""
    run = start_of_playbook("maintain", "kernels")
    owner = {**run["owner"], "pid": pid, "started": process_start(pid)}
    return {**run, "owner": owner, "id": f"{pid}", "lease_s": 1800}  # type: ignore[typeddict-item]  # what `owner` is made of


def ask(place: Path, wanted: str, run: Run, phase: str = "app1") -> PhaseAnswer:
    """Ask as the action does."""
    return until_locked(
        lambda broken: call.answer(turn.work, wanted=wanted, run=run, phase=phase, break_run=broken, place=place),  # type: ignore[arg-type, return-value]
        0,
    )


def test_each_task_of_a_playbook_asks_for_the_same_run() -> None:
    assert start_of_playbook("drain", "")["id"] == start_of_playbook("drain", "")["id"]


def today() -> str:
    """The day that it is now."""
    return time.strftime("%Y-%m-%d", time.gmtime())


def test_who_comes_second_is_told_who_has_the_turn_since_when_and_for_what(tmp_path: Path) -> None:
    first, second = run_of(os.getpid()), run_of(os.getppid())
    days = {today()}
    assert ask(tmp_path, "take", first)["reason"] is None
    days.add(today())
    said = ask(tmp_path, "take", second)["reason"]
    assert said
    owner = first["owner"]
    assert f"fleet is locked by {owner['user']}@{owner['host']} (pid {owner['pid']})" in said
    assert any(f"since {day}" in said for day in days)
    assert "for: maintain - kernels; now in phase 'app1'. Nothing was changed" in said
    # Nor can it leave what is another's.
    assert ask(tmp_path, "leave", second)["changed"] is False
    assert ask(tmp_path, "take", second)["reason"]


def test_a_turn_that_was_left_is_anybodys(tmp_path: Path) -> None:
    first, second = run_of(os.getpid()), run_of(os.getppid())
    assert ask(tmp_path, "take", first)["changed"] is True
    assert ask(tmp_path, "take", first, "app2")["changed"] is False
    assert ask(tmp_path, "leave", first)["changed"] is True
    assert ask(tmp_path, "take", second)["reason"] is None


def test_the_turn_of_a_run_that_was_killed_is_taken_over(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "60"]) as process:
        ask(tmp_path, "take", run_of(process.pid))
        assert ask(tmp_path, "take", run_of(os.getpid()))["reason"]
        process.kill()
    assert ask(tmp_path, "take", run_of(os.getpid()))["reason"] is None


@pytest.mark.parametrize("left_s", [-1, 60])
def test_what_another_controller_left_is_taken_over_when_its_time_is_over(tmp_path: Path, left_s: float) -> None:
    away = run_of(os.getppid())
    away["owner"]["machine"], away["lease_s"] = "another/controller", left_s
    ask(tmp_path, "take", away)
    said = ask(tmp_path, "take", run_of(os.getpid()))["reason"]
    assert bool(said) is (left_s > 0), said
