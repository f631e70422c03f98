"""A lab ends only processes that it started: pid and start time tell them from others that have the same pid by now."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

import lab_process
import pytest

from praetor.host.gate import wait_until

SLEEP = ["sleep", "60"]


@pytest.fixture(autouse=True)
def _no_control_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stay out of the machine's control groups: these tests need no root."""
    monkeypatch.setattr(lab_process, "control_group_roots", lambda: iter(()))


@pytest.fixture
def record(tmp_path: Path) -> Path:
    """Return where a process is recorded."""
    return tmp_path / "process.json"


def start(record: Path, argv: list[str]) -> None:
    """Start a program the lab's way."""
    lab_process.spawn(argv, record, record.with_name("log"), "test")


def test_a_started_process_is_known_until_it_is_ended(record: Path) -> None:
    start(record, SLEEP)
    pid = lab_process.recorded(record)
    assert pid is not None
    assert Path(f"/proc/{pid}/cmdline").read_bytes() == b"sleep\x0060\x00"
    assert lab_process.end(record)
    assert lab_process.recorded(record) is None
    assert not record.exists()
    stat = lab_process.stat_of(pid)
    assert stat is None or stat[0] == "Z", "nobody has asked yet how it ended; it is dead"


def test_a_started_process_has_a_session_of_its_own_and_none_of_our_files(record: Path) -> None:
    with record.with_name("lock").open("w") as lock:
        os.set_inheritable(lock.fileno(), True)  # noqa: FBT003  the function takes it by position only
        start(record, SLEEP)
        pid = lab_process.recorded(record)
        assert pid is not None
        assert os.getsid(pid) == pid
        held = set()
        for path in Path(f"/proc/{pid}/fd").iterdir():
            # A program that starts opens its own files, too, for a moment.
            with contextlib.suppress(FileNotFoundError):
                held.add(path.readlink())
        assert held
        assert Path(lock.name) not in held
    lab_process.end(record)


def test_another_process_with_the_recorded_pid_is_not_ours(record: Path) -> None:
    lab_process.write_record(record, os.getpid())
    ours = json.loads(record.read_text())
    record.write_text(json.dumps({**ours, "started_ticks": ours["started_ticks"] - 1}))
    assert lab_process.recorded(record) is None
    assert not lab_process.end(record), "this test would have ended itself"


def test_a_record_of_an_earlier_boot_is_not_believed(record: Path) -> None:
    lab_process.write_record(record, os.getpid())
    record.write_text(json.dumps({**json.loads(record.read_text()), "boot": "another"}))
    assert lab_process.recorded(record) is None


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"pid": "x"}'])
def test_a_record_that_makes_no_sense_is_no_process(record: Path, text: str) -> None:
    record.write_text(text)
    assert lab_process.recorded(record) is None
    assert not lab_process.end(record)


def test_a_process_that_died_is_not_taken_for_running(record: Path) -> None:
    start(record, ["true"])
    assert wait_until(lambda: lab_process.recorded(record) is None, 60)


def test_a_program_that_does_not_exist_is_an_error_at_once(record: Path) -> None:
    with pytest.raises(ChildProcessError, match="no-such-program"):
        start(record, ["no-such-program"])


def test_a_process_that_ignores_the_polite_signal_is_ended_all_the_same(record: Path) -> None:
    start(record, ["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.1; done"])
    assert wait_until(lambda: "ready" in record.with_name("log").read_text(), 60)
    assert lab_process.end(record, grace_s=0.2)
    assert lab_process.recorded(record) is None
