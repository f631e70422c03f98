"""The end of a run: drained, retired, pruned and recorded; put back when it failed; repaired when it was killed."""

import os
import time
from typing import Any

import pytest
from fakes import FakeEmperor, a_run, answer, await_slot, provision, put_release, put_slot

from praetor.documents import Journal, Run
from praetor.host import drain as drains
from praetor.host import gate as gates
from praetor.host import settle as settles
from praetor.host.journal import append, bad, before, history, mark_bad, phase, save
from praetor.host.layout import AppHost, Emperor, ReleaseError, Slot
from praetor.host.settle import abandon, prune, repair, retire_others, settle


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait less."""
    monkeypatch.setattr(drains, "QUIET_S", 0.05)
    monkeypatch.setattr(drains, "LOOK_S", 0.02)
    monkeypatch.setattr(gates, "POLL_S", 0.01)


def released(host: AppHost, old: str | None, new: str, action: str = "release") -> None:
    """A release that ended well."""
    append(host, {"action": action, "from": old, "to": new, "result": "ok"})


class Fleet:
    """A host where 1-a is live and settled, with an Emperor."""

    def __init__(self, host: AppHost, emperor: FakeEmperor) -> None:
        self.host, self.emperor = host, emperor
        put_release(host, "1-a", age_s=500)
        self.old = self.start("1-a")
        host.flip(self.old)
        released(host, None, "1-a")
        put_release(host, "2-b", age_s=400)

    def start(self, release: str) -> Slot:
        """Start a slot and wait until it runs."""
        slot = self.host.next_slot(release)
        put_slot(self.host, release, slot.number)
        await_slot(slot)
        return slot

    def flip(self, run: Run | None = None) -> Slot:
        """Do what a run does up to the end of its bake: 2-b is live, nothing is settled."""
        with phase(self.host, run or a_run("r1"), "flip", begins=True) as journal:
            slot = self.start("2-b")
            journal |= {"candidate": slot.name, "previous": self.old.name}
            save(self.host, journal)
            self.host.flip(slot)
        return slot

    def take_over(self) -> tuple[list[str], Journal]:
        """Repair as a run that found the one before dead."""
        with phase(self.host, a_run("r2"), "lock", "r1", begins=True) as journal:
            return repair(self.host, journal, 2), journal

    def clean(self) -> None:
        """Assert that nothing is left that is not needed."""
        live = self.host.live()
        assert live
        assert self.host.slots() == [live]
        assert self.host.leftovers() == []
        assert {path.stem for path in self.host.run_dir.iterdir()} == {live.name, "emperor-1"}


@pytest.fixture
def fleet(host: AppHost, emperor: FakeEmperor) -> Fleet:
    """Return a host on which a release lives."""
    return Fleet(host, emperor)


def test_all_slots_but_one_are_retired(fleet: Fleet) -> None:
    new = fleet.start("2-b")
    assert retire_others(fleet.host, 2, new) == [fleet.old.name]
    assert fleet.host.slots() == [new]


def test_settle_retires_records_and_unlocks(fleet: Fleet) -> None:
    run = a_run("r1", why="more")
    new = fleet.flip(run)
    with phase(fleet.host, run, "settle") as journal:
        journal["bake"] = {"flipped": True, "served": 7}
        done = settle(fleet.host, journal, "2-b", 5, 2)
    assert done == [f"retired slot {fleet.old.name}"]
    assert fleet.host.live() == new
    fleet.clean()
    last = history(fleet.host)[-1]
    assert last["duration_s"] >= 0
    assert {key: last[key] for key in ("action", "from", "to", "result", "by", "run", "why", "bake")} == {
        "action": "release",
        "from": "1-a",
        "to": "2-b",
        "result": "ok",
        "by": "ann@desk",
        "run": "r1",
        "why": "more",
        "bake": {"flipped": True, "served": 7},
    }
    assert not fleet.host.run_file.exists()


def test_what_is_not_live_cannot_be_settled(fleet: Fleet) -> None:
    with (
        pytest.raises(ReleaseError, match="2-b is not live on this host"),
        phase(fleet.host, a_run(), "settle", begins=True) as journal,
    ):
        settle(fleet.host, journal, "2-b", 5, 2)


def test_a_run_that_finishes_an_interrupted_one_knows_what_was_live_before(fleet: Fleet) -> None:
    fleet.flip()
    retire_others(fleet.host, 2, fleet.host.live())  # killed here, before the history was written
    fleet.take_over()
    with phase(fleet.host, a_run("r2"), "settle") as journal:
        settle(fleet.host, journal, "2-b", 5, 2)
    assert history(fleet.host)[-1]["from"] == "1-a"
    assert before(fleet.host, "2-b") == "1-a"


def test_a_run_that_settles_again_what_is_settled_hides_no_rollback(fleet: Fleet) -> None:
    fleet.flip()
    for run in (a_run("r1"), a_run("r2")):
        with phase(fleet.host, run, "settle", begins=True) as journal:
            settle(fleet.host, journal, "2-b", 5, 2)
    assert history(fleet.host)[-1]["from"] is None
    assert before(fleet.host, "2-b") == "1-a"


def test_abandon_puts_back_what_was_and_marks_what_failed(fleet: Fleet) -> None:
    fleet.flip()
    with phase(fleet.host, a_run("r1"), "settle") as journal:
        journal["reason"] = "5xx"
        done = abandon(fleet.host, journal, "2-b", "flip failed on web1\nmore", 2)
    assert done[0] == "1-a serves again."
    assert fleet.host.live() == fleet.old
    fleet.clean()
    assert bad(fleet.host)["2-b"]["reason"] == "5xx"
    last = history(fleet.host)[-1]
    assert (last["result"], last["from"], last["to"]) == ("failed", "1-a", "2-b")
    assert last["reason"] == "flip failed on web1\nmore"
    assert not fleet.host.run_file.exists()


def test_abandon_marks_nothing_bad_that_did_not_fail_here(fleet: Fleet) -> None:
    fleet.flip()
    with phase(fleet.host, a_run("r1"), "settle") as journal:
        abandon(fleet.host, journal, "2-b", "flip failed on web2", 2)
    assert bad(fleet.host) == {}
    assert fleet.host.live() == fleet.old


@pytest.mark.usefixtures("emperor")
def test_abandon_of_the_first_release_leaves_nothing(host: AppHost) -> None:
    put_release(host, "1-a")
    put_slot(host, "1-a", 1)
    await_slot(Slot("api", "1-a", 1))
    host.flip(Slot("api", "1-a", 1))
    with phase(host, a_run(), "settle", begins=True) as journal:
        journal["previous"] = None
        abandon(host, journal, "1-a", "flip failed", 2)
    assert (host.live(), host.slots(), host.leftovers()) == (None, [], [])


def test_abandon_before_the_flip_takes_away_the_candidate_only(fleet: Fleet) -> None:
    with phase(fleet.host, a_run(), "gate", begins=True):
        candidate = fleet.start("2-b")
    with phase(fleet.host, a_run(), "settle") as journal:
        done = abandon(fleet.host, journal, "2-b", "gate failed on web2", 2)
    assert done == [f"retired slot {candidate.name}"]
    assert fleet.host.live() == fleet.old
    fleet.clean()


def test_abandon_repairs_the_run_that_its_own_had_taken_over(fleet: Fleet) -> None:
    fleet.flip()
    with phase(fleet.host, a_run("r2"), "lock", "r1", begins=True):
        pass  # failed, before it had repaired anything
    with phase(fleet.host, a_run("r2"), "settle") as journal:
        abandon(fleet.host, journal, "3-c", "lock failed on web1", 2)
    assert fleet.host.live() == fleet.old
    fleet.clean()


def test_repair_of_nothing_does_nothing(fleet: Fleet) -> None:
    with phase(fleet.host, a_run(), "lock", begins=True) as journal:
        assert repair(fleet.host, journal, 2) == []
    assert fleet.host.live() == fleet.old


def test_repair_takes_away_a_candidate_of_a_killed_gate(fleet: Fleet) -> None:
    with phase(fleet.host, a_run("r1"), "gate", begins=True):
        candidate = fleet.start("2-b")
    done, journal = fleet.take_over()
    assert done[0] == "took over from an interrupted release by ann@desk (phase 'gate')"
    assert f"retired slot {candidate.name}" in done
    assert "interrupted" not in journal
    assert fleet.host.live() == fleet.old
    fleet.clean()


def test_repair_takes_back_a_flip_that_nobody_settled(fleet: Fleet) -> None:
    new = fleet.flip()
    done, _ = fleet.take_over()
    assert "flipped back to 1-a: the bake of 2-b was not finished" in done
    assert f"retired slot {new.name}" in done
    assert fleet.host.live() == fleet.old
    fleet.clean()


def test_repair_leaves_a_settled_release_live(fleet: Fleet) -> None:
    new = fleet.flip()
    released(fleet.host, "1-a", "2-b")  # killed between the history and the end
    done, _ = fleet.take_over()
    assert f"retired slot {fleet.old.name}" in done
    assert fleet.host.live() == new
    fleet.clean()


def test_repair_keeps_an_unsettled_slot_when_the_one_before_is_gone(fleet: Fleet) -> None:
    new = fleet.flip()
    gates.remove_slot(fleet.host, fleet.old)
    fleet.take_over()
    assert fleet.host.live() == new
    fleet.clean()


@pytest.mark.parametrize("answered", [None, 503])
def test_repair_flips_back_to_no_slot_that_cannot_serve(fleet: Fleet, answered: int | None) -> None:
    # As after a reboot: both slots start again, the one before is not up yet.
    new = fleet.flip()
    fleet.emperor.running(fleet.old).respond = lambda _: answer(answered) if answered else None
    fleet.take_over()
    assert fleet.host.live() == new
    fleet.clean()


def test_repair_that_is_killed_is_repeated(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    fleet.flip()
    with monkeypatch.context() as broken:
        broken.setattr(settles, "retire_others", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            fleet.take_over()
    with phase(fleet.host, a_run("r3"), "lock", "r2", begins=True) as journal:
        assert journal["interrupted"]
        assert journal["interrupted"]["run"]["id"] == "r1"
        repair(fleet.host, journal, 2)
    assert fleet.host.live() == fleet.old
    fleet.clean()


def test_repair_removes_each_kind_of_leftover(fleet: Fleet) -> None:
    host, dead = fleet.host, Slot("api", "2-b", 99)
    half = host.release_dir("3-c")
    half.mkdir()
    (half / "venv").mkdir()
    for path in (
        host.socket(dead),
        host.stats(dead),
        host.root / ".tmp.bad.json",
        host.vassals(Emperor("api", 1)) / ".tmp.api.x",
    ):
        path.touch()
    host.metrics(dead).mkdir()
    with phase(host, a_run(), "lock", begins=True) as journal:
        done = repair(host, journal, 2)
    assert f"removed {half}" in done
    assert len(done) == 6
    fleet.clean()


def names(host: AppHost) -> list[str]:
    return sorted(path.name for path in host.releases_dir.iterdir())


def test_prune_keeps_as_many_as_asked_for(fleet: Fleet) -> None:
    for number in range(3, 9):
        put_release(fleet.host, f"{number}-x", age_s=400 - number)
    assert prune(fleet.host, 3) == ["pruned 6-x", "pruned 5-x", "pruned 4-x", "pruned 3-x", "pruned 2-b"]
    assert names(fleet.host) == ["1-a", "7-x", "8-x"]


@pytest.mark.parametrize("keep", [1, 2])
def test_prune_never_takes_the_live_one_nor_the_one_before(fleet: Fleet, keep: int) -> None:
    for number in range(3, 9):
        put_release(fleet.host, f"{number}-x", age_s=400 - number)
    fleet.host.flip(put_slot(fleet.host, "2-b", 9))
    released(fleet.host, "1-a", "2-b")
    prune(fleet.host, keep)
    assert names(fleet.host) == ["1-a", "2-b"]


def test_prune_remembers_what_was_bad_also_when_it_is_gone(fleet: Fleet) -> None:
    for number in range(3, 33):
        mark_bad(fleet.host, f"{number}-x", "5xx")
    prune(fleet.host, 2)
    assert list(bad(fleet.host)) == [f"{number}-x" for number in range(13, 33)]


def test_prune_takes_what_never_served_first(fleet: Fleet) -> None:
    for number in range(3, 9):
        put_release(fleet.host, f"{number}-x", age_s=400 - number)
    released(fleet.host, "1-a", "3-x")
    prune(fleet.host, 3)
    assert names(fleet.host) == ["1-a", "3-x", "8-x"]


def test_a_prune_that_is_killed_leaves_no_release_that_looks_whole(
    fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(_: object) -> None:
        raise KeyboardInterrupt

    put_release(fleet.host, "3-c", age_s=1)
    monkeypatch.setattr(settles, "remove", killed)
    with pytest.raises(KeyboardInterrupt):
        prune(fleet.host, 1)
    monkeypatch.undo()
    assert "3-c" not in fleet.host.releases()
    with phase(fleet.host, a_run(), "lock", begins=True) as journal:
        repair(fleet.host, journal, 2)
    assert "3-c" not in names(fleet.host)


def put_wheel(host: AppHost, sha256: str, age_s: float = 7200) -> None:
    (host.wheels / sha256).mkdir(parents=True)
    os.utime(host.wheels / sha256, (time.time() - age_s, time.time() - age_s))


def wheels(*digests: str) -> Any:
    return {"cp311": [{"name": digest, "file": digest, "sha256": digest} for digest in digests]}


def test_wheels_that_no_release_of_any_app_needs_are_pruned(fleet: Fleet) -> None:
    other = provision(fleet.host.layout, "other")
    put_release(other, "1-o", wheels=wheels("shared", "others"))
    put_release(fleet.host, "1-z", age_s=1, wheels=wheels("ours"), tree={"sha256": "tree", "digest": "d"})
    for digest in ("shared", "others", "ours", "tree", "old"):
        put_wheel(fleet.host, digest)
    put_wheel(fleet.host, "just-sent", age_s=60)
    prune(fleet.host, 5)
    assert sorted(path.name for path in fleet.host.wheels.iterdir()) == [
        "just-sent",
        "others",
        "ours",
        "shared",
        "tree",
    ]


def test_no_wheel_is_pruned_while_another_app_changes(fleet: Fleet) -> None:
    other = provision(fleet.host.layout, "other")
    put_release(other, "1-o")
    (other.release_dir("1-o") / "release.json").write_text("{", encoding="utf-8")
    put_wheel(fleet.host, "old")
    prune(fleet.host, 5)
    assert (fleet.host.wheels / "old").exists()
