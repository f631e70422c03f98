"""Who may change an app, what was done to it, and where a rollback goes."""

import errno
import fcntl
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from fakes import a_run, put_release

from praetor.documents import Event, Journal, Run
from praetor.host import journal as journals
from praetor.host.journal import LockedError, append, before, history, phase, save, settled, unlock
from praetor.host.layout import AppHost, ReleaseError


def on_disk(host: AppHost) -> Journal:
    """The journal that another process would find."""
    found: Journal = json.loads(host.run_file.read_text(encoding="utf-8"))
    return found


def begin(host: AppHost, run: Run, name: str = "lock", break_run: str | None = None) -> Journal:
    """One phase that takes the lock."""
    with phase(host, run, name, break_run, begins=True) as journal:
        return journal


def interrupted(journal: Journal) -> Journal:
    """The journal of the run that never ended."""
    found = journal.get("interrupted")
    assert found
    return found


def test_a_run_holds_the_app_between_its_phases(host: AppHost) -> None:
    begin(host, a_run("r1", why="fix <it>"))
    with pytest.raises(LockedError) as caught:
        begin(host, a_run("r2"))
    said = str(caught.value)
    for part in (
        "api is locked by ann@desk (pid 4242) since ",
        "for: release - fix <it>;",
        "phase 'lock'",
        "lock_wait=",
    ):
        assert part in said
    assert caught.value.holder["run"]["id"] == "r1"
    assert on_disk(host)["run"]["id"] == "r1"


def test_what_a_phase_notes_the_next_one_finds(host: AppHost) -> None:
    with phase(host, a_run(), "gate", begins=True) as journal:
        journal["candidate"] = "api.1-a.1"
    with phase(host, a_run(), "flip") as journal:
        assert journal["candidate"] == "api.1-a.1"
        assert on_disk(host)["phase"] == "flip"


def test_a_failed_phase_keeps_what_it_noted(host: AppHost) -> None:
    def fail() -> None:
        with phase(host, a_run(), "gate", begins=True) as journal:
            journal["reason"] = "r"
            raise ReleaseError("broken")

    with pytest.raises(ReleaseError, match="broken"):
        fail()
    assert on_disk(host)["reason"] == "r"


def test_each_phase_renews_the_lease_and_keeps_the_beginning(host: AppHost) -> None:
    first = begin(host, a_run())
    save(host, {**first, "expires": time.time() + 1, "since": 17.0})
    began = time.time()
    with phase(host, a_run(), "stage"):
        assert on_disk(host)["expires"] >= began + journals.LEASE_S
    assert on_disk(host)["since"] == 17.0


def test_a_run_with_long_bakes_has_a_longer_lease(host: AppHost) -> None:
    began = time.time()
    begin(host, a_run(lease_s=9000))
    assert on_disk(host)["expires"] >= began + 9000


def test_a_lease_that_is_over_frees_the_app_and_tells_of_the_run(host: AppHost) -> None:
    save(host, {**begin(host, a_run("r1")), "expires": time.time() - 1})
    journal = begin(host, a_run("r2"))
    assert interrupted(journal)["run"]["id"] == "r1"


def test_a_run_whose_owner_was_found_dead_is_taken_over_at_once(host: AppHost) -> None:
    begin(host, a_run("r1"))
    assert interrupted(begin(host, a_run("r2"), break_run="r1"))["run"]["id"] == "r1"


def test_only_the_run_that_was_found_dead_is_taken_over(host: AppHost) -> None:
    begin(host, a_run("r3"))
    with pytest.raises(LockedError):
        begin(host, a_run("r2"), break_run="r1")


def test_an_interrupted_repair_still_knows_the_run_that_it_was_to_repair(host: AppHost) -> None:
    save(host, {**begin(host, a_run("r1")), "previous": "api.1-a.1"})
    begin(host, a_run("r2"), break_run="r1")
    journal = begin(host, a_run("r3"), break_run="r2")
    assert interrupted(journal)["run"]["id"] == "r1"
    assert interrupted(journal)["previous"] == "api.1-a.1"


def test_a_run_that_was_taken_for_dead_does_not_go_on(host: AppHost) -> None:
    begin(host, a_run("r1"))
    begin(host, a_run("r2"), break_run="r1")
    with pytest.raises(LockedError), phase(host, a_run("r1"), "flip"):
        pytest.fail("two runs at once")
    unlock(host, "r2")
    with pytest.raises(ReleaseError, match="has lost its lock on api on this host"), phase(host, a_run("r1"), "flip"):
        pytest.fail("it goes on after another run has ended")
    assert not host.run_file.exists()


def test_a_run_ends_itself_and_no_other(host: AppHost) -> None:
    begin(host, a_run("r1"))
    assert journals.holds(host, "r1")
    assert not journals.holds(host, "r2")
    assert unlock(host, "r2") is False
    assert unlock(host, "r1") is True
    assert unlock(host, "r1") is False
    assert not journals.holds(host, "r1")


def test_the_phase_that_ends_a_run_leaves_no_lock(host: AppHost) -> None:
    with phase(host, a_run(), "settle", begins=True):
        unlock(host, "r1")
    assert not host.run_file.exists()


def test_a_journal_that_is_cut_short_locks_nobody_out(host: AppHost) -> None:
    host.run_file.write_text('{"run": {', encoding="utf-8")
    assert begin(host, a_run("r2"))["interrupted"] is None


def test_of_two_runs_at_once_one_gets_the_app(host: AppHost) -> None:
    results: list[str] = []
    start = threading.Barrier(8)

    def one(number: int) -> None:
        start.wait()
        try:
            begin(host, a_run(f"r{number}"))
            results.append(f"r{number}")
        except LockedError:
            results.append("refused")

    threads = [threading.Thread(target=one, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    [winner] = set(results) - {"refused"}
    assert results.count("refused") == 7
    assert on_disk(host)["run"]["id"] == winner


def test_a_second_run_is_refused_at_once_while_a_phase_is_at_work(
    host: AppHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    with phase(host, a_run("r1"), "flip", begins=True):
        monkeypatch.setattr(journals, "_wait_for", lambda *_: pytest.fail("it waits"))
        with pytest.raises(LockedError, match="ann@desk"):
            begin(host, a_run("r2"))


def test_a_phase_that_outlives_its_controller_is_waited_for(host: AppHost, monkeypatch: pytest.MonkeyPatch) -> None:
    wait = journals._wait_for
    monkeypatch.setattr(journals, "_wait_for", lambda guard, _, host: wait(guard, 0.3, host))
    with phase(host, a_run("r1"), "flip", begins=True), pytest.raises(LockedError, match="still at work") as caught:
        begin(host, a_run("r2"), break_run="r1")
    # The holder is named, so that lock_wait= goes on asking.
    assert caught.value.holder["run"]["id"] == "r1"
    assert begin(host, a_run("r2"), break_run="r1")["run"]["id"] == "r2"


def test_a_killed_phase_is_waited_for_no_longer(host: AppHost) -> None:
    program = f"""
import pathlib, time
from praetor.host.layout import AppHost, Layout
from praetor.host.journal import phase
layout = Layout(*map(pathlib.Path, {[str(path) for path in host.layout]!r}))
with phase(AppHost("api", layout), {a_run("r1")!r}, "gate", begins=True) as journal:
    journal["previous"] = "api.1-a.1"
    print("at work", flush=True)
    time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "at work\n"
        process.kill()
    journal = begin(host, a_run("r2"), break_run="r1")
    assert interrupted(journal)["phase"] == "gate"


def test_nobody_else_may_open_the_lock(host: AppHost) -> None:
    begin(host, a_run())
    assert (host.root / ".flock").stat().st_mode & 0o777 == 0o600
    with (host.root / ".flock").open("w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX | fcntl.LOCK_NB)


def full(*_: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_does_not_keep_a_run_from_its_next_phase(host: AppHost, monkeypatch: pytest.MonkeyPatch) -> None:
    begin(host, a_run())
    monkeypatch.setattr(journals, "write_atomically", full)
    with phase(host, a_run(), "settle") as journal:
        journal["reason"] = "r"


def test_a_full_disk_keeps_a_run_from_beginning(host: AppHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journals, "write_atomically", full)
    with pytest.raises(OSError, match="No space"):
        begin(host, a_run())
    assert not host.run_file.exists()


def test_another_error_of_the_disk_is_told(host: AppHost, monkeypatch: pytest.MonkeyPatch) -> None:
    begin(host, a_run())

    def broken(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(journals, "write_atomically", broken)
    with pytest.raises(OSError, match="Input/output"), phase(host, a_run(), "settle"):
        pytest.fail("went on")


def test_history_is_read_as_it_was_written(host: AppHost) -> None:
    assert history(host) == []
    append(host, {"action": "release", "why": "ü\u2028\x85\n"})
    append(host, {"action": "rollback", "ts": "2026-01-01T00:00:00Z"})
    first, second = history(host)
    assert first["why"] == "ü\u2028\x85\n"
    assert first["ts"].endswith("Z")
    assert second["ts"] == "2026-01-01T00:00:00Z"


@pytest.mark.parametrize("half", [b'{"action": "rel', b'{"why": "\xc3', b"\xff"])
def test_half_a_line_is_left_out_and_swallows_no_other(host: AppHost, half: bytes) -> None:
    append(host, {"action": "one"})
    with host.history.open("ab") as file:
        file.write(half)
    append(host, {"action": "two"})
    assert [entry["action"] for entry in history(host)] == ["one", "two"]


def test_a_line_that_fits_only_in_parts_is_written_whole(host: AppHost, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:7]))
    append(host, {"action": "one"})
    assert [entry["action"] for entry in history(host)] == ["one"]


def record(host: AppHost, *steps: tuple[str, str | None, str] | tuple[str, str | None, str, str]) -> None:
    """Write history: action, from, to, and a result other than ok."""
    for action, origin, target, *result in steps:
        append(host, {"action": action, "from": origin, "to": target, "result": result[0] if result else "ok"})
        if not host.release_dir(target).exists():
            put_release(host, target)


def test_there_is_nothing_before_the_first_release(host: AppHost) -> None:
    record(host, ("release", None, "A"))
    assert before(host, "A") is None
    assert before(host, None) is None


def test_rolling_back_twice_goes_back_two_releases(host: AppHost) -> None:
    record(host, ("release", None, "A"), ("release", "A", "B"), ("release", "B", "C"))
    assert before(host, "C") == "B"
    record(host, ("rollback", "C", "B"))
    assert before(host, "B") == "A"
    record(host, ("rollback", "B", "A"))
    assert before(host, "A") is None


def test_a_release_after_a_rollback_goes_back_to_what_was_live(host: AppHost) -> None:
    record(host, ("release", None, "A"), ("release", "A", "B"), ("rollback", "B", "A"), ("release", "A", "C"))
    assert before(host, "C") == "A"


def test_bad_releases_are_skipped(host: AppHost) -> None:
    record(host, ("release", None, "A"), ("release", "A", "B"), ("release", "B", "C"))
    journals.mark_bad(host, "B", "5xx")
    assert before(host, "C") == "A"
    journals.mark_bad(host, "A", "5xx")
    assert before(host, "C") is None


def test_pruned_releases_are_skipped(host: AppHost) -> None:
    record(host, ("release", None, "A"), ("release", "A", "B"), ("release", "B", "C"))
    (host.release_dir("B") / "release.json").unlink()
    assert before(host, "C") == "A"


def test_failed_releases_were_never_live(host: AppHost) -> None:
    record(host, ("release", None, "A"), ("release", "A", "B", "failed"), ("release", "A", "C"))
    assert before(host, "C") == "A"


def test_a_release_that_came_twice_goes_back_to_what_was_live_the_last_time(host: AppHost) -> None:
    record(host, ("release", None, "A"), ("release", "A", "B"), ("release", "B", "A"))
    assert before(host, "A") == "B"
    # And a circle ends.
    journals.mark_bad(host, "B", "5xx")
    assert before(host, "A") is None


def test_a_run_that_changed_nothing_hides_nothing(host: AppHost) -> None:
    record(host, ("release", None, "A"), ("release", "A", "B"), ("release", None, "B"))
    assert before(host, "B") == "A"


def test_a_release_is_settled_when_the_last_run_that_ended_well_made_it_live(host: AppHost) -> None:
    assert not settled(host, "A")
    record(host, ("release", None, "A"), ("migrate", None, "B"), ("release", "A", "B", "failed"))
    assert settled(host, "A")
    assert not settled(host, "B")
    record(host, ("release", "A", "B"), ("rollback", "B", "A"))
    assert settled(host, "A")


def test_bad_releases_are_remembered_until_they_are_pruned(host: AppHost) -> None:
    assert journals.bad(host) == {}
    journals.mark_bad(host, "A", "5xx")
    journals.mark_bad(host, "B", "slow")
    assert journals.bad(host)["A"]["reason"] == "5xx"
    journals.unmark_bad(host, {"B", "C"})
    assert set(journals.bad(host)) == {"B"}


@pytest.mark.parametrize(("left", "expected"), [(60, True), (-1, False)])
def test_a_freeze_ends_by_itself(host: AppHost, left: int, expected: bool) -> None:  # noqa: FBT001
    assert journals.frozen(host) is None
    freeze = {"until": time.time() + left, "reason": "sale", "by": "ann"}
    Path(host.root / "freeze.json").write_text(json.dumps(freeze), encoding="utf-8")
    assert (journals.frozen(host) is not None) is expected


def test_the_hosts_that_the_last_good_run_knew_are_told(host: AppHost) -> None:
    assert journals.made_live_on(host) == []
    good: Event = {"action": "release", "to": "1-a", "from": None, "result": "ok", "hosts": ["h1"], "without": ["h2"]}
    append(host, good)
    append(host, {**good, "result": "failed", "hosts": ["h9"]})
    assert journals.made_live_on(host) == ["h1", "h2"]
