"""Processes of an app change hands with a release: the new ones work before the old ones are asked to end, and nobody waits for what these are doing."""

from __future__ import annotations

import subprocess
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from fakes import FakeSlot, Units, a_run, manifest_of, process, put_release, put_slot

from praetor.documents import Place, Process
from praetor.host import flip as flips
from praetor.host import processes, systemd
from praetor.host import settle as settles
from praetor.host.flip import Limits, flip_and_bake
from praetor.host.journal import append, phase
from praetor.host.layout import AppHost, BakeError, ReleaseError, Slot
from praetor.host.processes import ALONE, Share, Unit, keep_share, look, share, share_of
from praetor.host.systemd import systemctl as real_systemctl

LIMITS = Limits(bake_s=0.1, max_5xx_ratio=0.01, max_p95_factor=3, min_requests=20)


def with_processes(*found: Process) -> dict[str, Any]:
    return {"settings": {**manifest_of("1-a")["settings"], "processes": list(found)}}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, host: AppHost, units: Units) -> None:
    monkeypatch.setattr(processes, "ALIVE_S", 0.05)
    monkeypatch.setattr(processes, "LOOK_S", 0.01)
    monkeypatch.setattr(flips, "WATCH_S", 0.02)
    monkeypatch.setattr(flips, "last_lines", lambda *_: "(log)")
    monkeypatch.setattr(processes, "last_lines", lambda *_: "(log)")
    units.places.add(host.layout.units)


class Started:
    """A host on which release 1-a is live with its processes, and a slot of 2-b that passed the gate."""

    def __init__(self, host: AppHost, *before: Process, after: tuple[Process, ...] | None = None) -> None:
        self.host = host
        put_release(host, "1-a", age_s=100, **with_processes(*before))
        put_release(host, "2-b", **with_processes(*(before if after is None else after)))
        self.old, self.new = put_slot(host, "1-a", 1), put_slot(host, "2-b", 2)
        self.slots = [FakeSlot(host, slot) for slot in (self.old, self.new)]
        append(host, {"action": "release", "from": None, "to": "1-a", "result": "ok"})
        host.flip(self.old)
        wanted = share_of(host.manifest("1-a"), {}, ALONE)
        keep_share(host, wanted)
        processes.start(host, self.old, wanted)

    def flip(self, place: Place = ALONE) -> None:
        with phase(self.host, a_run("r1"), "flip", begins=True) as journal:
            flip_and_bake(self.host, self.new, LIMITS, Path("/nonexistent"), journal, place)


def names(*units: tuple[str, int, int]) -> list[str]:
    return sorted(Unit("api", *unit).name for unit in units)


def test_new_ones_work_before_old_ones_are_asked_to_end(host: AppHost, units: Units) -> None:
    started = Started(host, process(per_host=2))
    assert units.running == names(("worker", 1, 1), ("worker", 1, 2))
    started.flip()
    assert units.running == names(("worker", 2, 1), ("worker", 2, 2))
    verbs = [asked[0] for asked in units.asked if asked[0] in {"start", "stop"}]
    assert verbs[-2:] == ["start", "stop"]
    assert "--no-block" in next(asked for asked in units.asked if asked[0] == "stop")


def test_what_an_old_one_is_doing_is_not_waited_for_and_its_release_is_kept(host: AppHost, units: Units) -> None:
    started, [busy] = Started(host, process()), names(("worker", 1, 1))
    units.busy.add(busy)
    started.flip()
    with phase(host, a_run("r1"), "settle") as journal:
        settles.settle(host, journal, "2-b", 1, 1)
    assert [(each["release"], each["state"]) for each in look(host)] == [("1-a", "deactivating"), ("2-b", "active")]
    assert "1-a" in host.releases()
    assert (host.layout.units / "app-api-worker-1@.service").exists()
    units.end(busy)
    processes.forget_ended(host)
    assert not (host.layout.units / "app-api-worker-1@.service").exists()
    assert processes.in_use(host) == {"2-b"}


def test_one_that_ends_while_old_releases_are_removed_keeps_its_own(
    host: AppHost, units: Units, monkeypatch: pytest.MonkeyPatch
) -> None:
    started, [busy] = Started(host, process()), names(("worker", 2, 1))
    units.busy.add(busy)
    started.flip()
    host.flip_back(started.old)
    processes.start(host, started.old, {"worker": 1})
    processes.stop_others(host, started.old)
    forget = processes.forget_ended

    def forget_and_end(host: AppHost) -> None:
        forget(host)
        units.end(busy)

    monkeypatch.setattr(processes, "forget_ended", forget_and_end)
    assert settles.prune(host, 1) == []
    monkeypatch.setattr(processes, "forget_ended", forget)
    assert settles.prune(host, 1) == ["pruned 2-b"]
    assert not (host.layout.units / "app-api-worker-2@.service").exists()


@pytest.mark.parametrize("result", ["exit-code", "timeout", "oom-kill"])
def test_an_old_one_that_ended_badly_is_forgotten_by_the_next_settle(host: AppHost, units: Units, result: str) -> None:
    started, [old] = Started(host, process()), names(("worker", 1, 1))
    units.busy.add(old)
    started.flip()
    units.end(old, result)
    assert [each["state"] for each in look(host)] == ["failed", "active"], "until then it is seen"
    with phase(host, a_run("r1"), "settle") as journal:
        settles.settle(host, journal, "2-b", 1, 1)
    assert [each["release"] for each in look(host)] == ["2-b"]
    assert not (host.layout.units / "app-api-worker-1@.service").exists()
    assert processes.in_use(host) == {"2-b"}


def test_a_live_one_that_failed_is_not_forgotten(host: AppHost, units: Units) -> None:
    Started(host, process())
    [own] = names(("worker", 1, 1))
    units.end(own, "exit-code")
    processes.forget_ended(host)
    assert [(each["release"], each["state"]) for each in look(host)] == [("1-a", "failed")]


def test_a_program_that_ends_at_once_undoes_the_start_before_anything_serves(host: AppHost, units: Units) -> None:
    started = Started(host, process())
    units.broken.add("2-b")
    with pytest.raises(ReleaseError, match=r"process worker 1 of 2-b ended by itself \(exit status 3\).*1-a goes on"):
        started.flip()
    assert host.live() == started.old
    assert units.running == names(("worker", 1, 1))
    assert share(host) == {"worker": 1}


def test_a_failed_run_leaves_no_unit_of_a_release_that_goes(host: AppHost, units: Units) -> None:
    started = Started(host, process())
    units.broken.add("2-b")
    with pytest.raises(ReleaseError):
        started.flip()
    assert (host.layout.units / "app-api-worker-2@.service").exists()
    assert settles.prune(host, 1) == ["pruned 2-b"]
    assert [path.name for path in host.layout.units.glob("app-*")] == ["app-api-worker-1@.service"]


def test_a_program_that_ends_while_it_is_watched_undoes_the_flip(
    host: AppHost, units: Units, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = Started(host, process())
    [new] = names(("worker", 2, 1))
    flip = AppHost.flip

    def flip_and_die(self: AppHost, slot: Slot) -> None:
        flip(self, slot)
        units.known[new] |= {"NRestarts": "1", "ExecMainCode": "2", "ExecMainStatus": "11"}

    monkeypatch.setattr(AppHost, "flip", flip_and_die)
    with pytest.raises(BakeError, match=r"process worker 1 ended by itself \(signal 11\) and was started again"):
        started.flip()
    assert host.live() == started.old
    assert units.running == names(("worker", 1, 1))


def test_there_is_never_a_second_one_of_what_runs_once(host: AppHost, units: Units) -> None:
    started, [busy] = Started(host, process("beat", one=True)), names(("beat", 1, 1))
    seen = []

    class Watching(Units):
        def __call__(self, *arguments: str) -> Any:
            done = Units.__call__(units, *arguments)
            seen.append(list(units.known))
            if len(seen) == 6 and busy in units.known:
                units.end(busy)
            return done

    units.busy.add(busy)
    with pytest.MonkeyPatch.context() as patch:
        for module in ("jobs", "processes", "systemd"):
            patch.setattr(f"praetor.host.{module}.systemctl", Watching())
        started.flip()
    assert units.running == names(("beat", 2, 1))
    assert max(map(len, seen)) == 1


def test_what_runs_once_comes_back_when_its_next_release_fails(host: AppHost, units: Units) -> None:
    started = Started(host, process("beat", one=True))
    units.broken.add("2-b")
    with pytest.raises(ReleaseError, match="process beat 1 of 2-b"):
        started.flip()
    assert units.running == names(("beat", 1, 1))


@pytest.mark.parametrize("cut", ["before the flip", "after the flip"])
def test_a_run_that_was_killed_is_put_back_by_the_next_one(
    host: AppHost, units: Units, monkeypatch: pytest.MonkeyPatch, cut: str
) -> None:
    started = Started(host, process(per_host=1), after=(process(per_host=3), process("other")))
    flip = AppHost.flip

    def cut_off(self: AppHost, slot: Slot) -> None:
        if cut == "after the flip":
            flip(self, slot)
        raise KeyboardInterrupt

    monkeypatch.setattr(AppHost, "flip", cut_off)
    with pytest.raises(KeyboardInterrupt):
        started.flip()
    monkeypatch.setattr(AppHost, "flip", flip)
    with phase(host, a_run("r2"), "lock", "r1", begins=True) as journal:
        settles.repair(host, journal, 1)
    assert host.live() == started.old
    assert units.running == names(("worker", 1, 1))
    assert share(host) == {"worker": 1}


def test_a_reboot_starts_what_is_live(host: AppHost, units: Units) -> None:
    started = Started(host, process(per_host=2))
    units.power_cut(host.layout)
    assert units.running == names(("worker", 1, 1), ("worker", 1, 2))
    started.flip()
    units.power_cut(host.layout)
    assert units.running == names(("worker", 2, 1), ("worker", 2, 2))


def test_another_number_of_a_live_release_is_taken_without_a_restart_of_the_others(host: AppHost, units: Units) -> None:
    started = Started(host, process(count=4))
    append(host, {"action": "release", "from": None, "to": "1-a", "result": "ok"})
    started.new = started.old
    started.flip(Place(index=0, hosts=2, held=[], takes=True))
    assert units.running == names(("worker", 1, 1), ("worker", 1, 2))
    assert share(host) == {"worker": 2}


def test_removal_leaves_no_unit(host: AppHost, units: Units) -> None:
    Started(host, process(per_host=2))
    processes.end_all(host)
    assert units.running == []
    assert list(host.layout.units.glob("app-api-*")) == []
    assert list((host.layout.units / "multi-user.target.wants").iterdir()) == []


@pytest.mark.parametrize(
    ("given", "own", "where", "wanted"),
    [
        (process(), {}, ALONE, 1),
        (process(per_host=3), {}, ALONE, 3),
        (process(count=4), {}, Place(index=0, hosts=3, held=[], takes=True), 2),
        (process(count=4), {}, Place(index=1, hosts=3, held=[], takes=False), 1),
        (process(count=1), {}, Place(index=2, hosts=3, held=[], takes=False), 0),
        (process(one=True), {}, Place(index=0, hosts=3, held=[], takes=True), 1),
        (process(one=True), {}, Place(index=0, hosts=3, held=[], takes=False), 0),
        (process(one=True), {"worker": 1}, Place(index=2, hosts=3, held=[], takes=False), 1),
        (process(one=True), {}, Place(index=0, hosts=3, held=["worker"], takes=True), 0),
        # Two hosts say that they have it: the controller names the one that keeps it.
        (process(one=True), {"worker": 1}, Place(index=1, hosts=3, held=["worker"], takes=False), 0),
    ],
)
def test_a_hosts_share(given: Process, own: Share, where: Place, wanted: int) -> None:
    assert share_of(manifest_of("1-a", **with_processes(given)), own, where) == {"worker": wanted}


def test_the_gate_finds_a_program_that_cannot_be_imported(host: AppHost, monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = put_release(host, "1-a", **with_processes(process()))

    def fail(_: AppHost, release: str, command: list[str], __: float) -> str:
        assert command[-3:] == ["python", "-m", "api.worker"]
        raise ReleaseError(f"command '{release}' failed with exit status 1:\nNo module named 'absent'")

    monkeypatch.setattr(processes, "run_command", fail)
    with pytest.raises(ReleaseError, match=r"(?s)process worker of 1-a cannot be started.*nothing was live.*absent"):
        processes.check(host, manifest)


def test_where_there_is_no_systemd_no_unit_is_known(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # As in a build of an image: it stages a release and starts nothing.
    (tmp_path / "nothing").mkdir()
    monkeypatch.setattr(subprocess, "run", partial(subprocess.run, executable=str(tmp_path / "nothing" / "systemctl")))
    monkeypatch.setattr(systemd, "systemctl", real_systemctl)
    assert real_systemctl("daemon-reload").returncode == 127
    assert systemd.show("app-*", "ActiveState") == []
