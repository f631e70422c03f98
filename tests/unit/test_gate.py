"""The gate: which slots it lets through, which it does not, and what is left of those."""

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fakes import (
    FakeEmperor,
    FakeSlot,
    Server,
    a_run,
    answer,
    host_in,
    manifest_of,
    put_release,
    put_slot,
    vassal_of,
)

from praetor.documents import Journal
from praetor.host import emperors, uwsgi
from praetor.host import gate as gates
from praetor.host.gate import Health, Probe, Verdict, gate
from praetor.host.journal import phase
from praetor.host.layout import AppHost, Emperor, ReleaseError, Slot

HEALTH = Health("/health/ready", 200, timeout_s=10, warmup_s=3, host="api.example.org")
GROUP = gates._group_name(os.getgid())


def judge(
    *probes: tuple[float, int | None], failed: str = "", loading: str = "", health: Health = HEALTH
) -> tuple[bool | None, Verdict]:
    """Show probes to a verdict until it is decided."""
    verdict = Verdict(health, 0.0)
    for now, status in probes:
        decided = verdict.see(now, Probe(status, "said", failed, loading))
        if decided is not None:
            return decided, verdict
    return None, verdict


def test_two_good_answers_in_a_row_are_healthy() -> None:
    assert judge((0.1, 200), (0.2, 200))[0] is True


def test_one_good_answer_is_not_enough() -> None:
    assert judge((0.1, 200))[0] is None


def test_a_flapping_slot_is_not_healthy_and_fails_when_its_warmup_is_over() -> None:
    decided, verdict = judge(*((second / 2, (200, 503)[second % 2]) for second in range(20)))
    assert decided is False
    assert "answered 503 instead of 200" in verdict.last


def test_good_answers_with_silence_between_them_are_not_in_a_row() -> None:
    assert judge((0.1, 200), (0.2, None), (0.3, 200))[0] is None


def test_what_cannot_become_healthy_any_more_is_decided_at_once() -> None:
    decided, verdict = judge((0.2, None), failed="worker 2 could not load the app: KeyError: 'X'")
    assert decided is False
    assert verdict.last == "worker 2 could not load the app: KeyError: 'X'"


def test_a_slot_is_not_healthy_before_all_of_its_workers_have_loaded_the_app() -> None:
    loading = "worker 2 of 2 had not loaded the app"
    # The others load it after the first, and have as long as that one had.
    assert judge((9.8, 200), (9.9, 200), (19.7, 200), loading=loading)[0] is None
    decided, verdict = judge((9.8, 200), (19.8, 200), loading=loading)
    assert (decided, verdict.last) == (False, f"{loading} within 10 s of the first")


def test_without_a_status_anything_below_500_is_healthy() -> None:
    weak = Health("/", None, timeout_s=10, warmup_s=3, host="x")
    assert judge((0.1, 404), (0.2, 302), health=weak)[0] is True
    decided, verdict = judge((0.1, 500), (3.1, 500), health=weak)
    assert (decided, verdict.last) == (False, "/ answered 500 instead of anything below 500: said")


@pytest.mark.parametrize(("until", "expected"), [(2.9, None), (3.0, False)])
def test_a_wrong_status_is_borne_for_the_warmup_only(until: float, expected: bool | None) -> None:  # noqa: FBT001
    # The first answer came at 0: also the beginning of a clock is a time.
    decided, verdict = judge((0.0, 503), (until, 503))
    assert decided is expected
    assert verdict.last == "/health/ready answered 503 instead of 200: said"


def test_a_slot_that_warms_up_in_time_is_healthy() -> None:
    assert judge((0.5, 503), (2.0, 503), (3.0, 200), (3.1, 200))[0] is True


def test_a_slow_start_has_its_time_and_then_its_warmup() -> None:
    assert judge((9.9, None), (9.95, 503), (12.0, 200), (12.1, 200))[0] is True


def test_silence_ends_with_the_timeout() -> None:
    assert judge((9.9, None))[0] is None
    decided, verdict = judge((10.0, None))
    assert decided is False
    assert verdict.last == "no healthy answer from /health/ready within 10 s; at last said"


def test_an_empty_answer_is_named_so() -> None:
    verdict = Verdict(HEALTH, 0.0)
    verdict.see(0.0, Probe(500, " \n"))
    assert verdict.last.endswith("(empty)")


def test_the_health_check_is_the_one_of_the_release() -> None:
    assert Health.of(manifest_of("1-a"), "x") == Health("/health/ready", 200, 60, 1, "x")
    for given, path, status in ((None, None), "/", None), (("/up", None), "/up", 200), ((None, 204), "/", 204):
        health = {"path": given[0], "status": given[1], "timeout_s": 5, "warmup_s": 1}
        found = Health.of(manifest_of("1-a", settings={"health": health}), "x")
        assert (found.path, found.status) == (path, status)


@pytest.fixture(autouse=True)
def no_journal(monkeypatch: pytest.MonkeyPatch) -> None:
    """The host's journal is not asked in tests."""
    monkeypatch.setattr(gates, "last_lines", lambda *_: "the last lines")


@pytest.fixture
def owned(host: AppHost, monkeypatch: pytest.MonkeyPatch) -> AppHost:
    """Return a host whose sockets belong to the group that runs the tests."""
    monkeypatch.setattr(gates, "POLL_S", 0.02)
    return host


def through(
    host: AppHost, release: str = "2-b", clients: str = GROUP, *, again: bool = False, **changes: Any
) -> tuple[Slot, Journal]:
    """Take a release through the gate."""
    with phase(host, a_run(), "gate", begins=True) as journal:
        manifest: Any = {**(host.manifest(release) or manifest_of(release)), **changes}
        return gate(host, manifest, "api.example.org", journal, clients=clients, again=again), journal


@pytest.mark.usefixtures("emperor")
def test_a_healthy_slot_passes_and_is_not_live(owned: AppHost) -> None:
    put_release(owned, "2-b")
    slot, journal = through(owned)
    assert owned.slots() == [slot]
    assert owned.live() is None
    assert journal["candidate"] == slot.name
    assert vassal_of(slot, owned).readlink() == owned.release_dir("2-b") / "vassal.ini"


def failing(host: AppHost, respond: Any) -> Iterator[str]:
    """Gate a release that fails, next to one that is live; yields the message."""
    emperor = FakeEmperor(host.layout, lambda slot: respond if slot.release == "2-b" else 200)
    put_release(host, "1-a")
    put_release(host, "2-b")
    live = put_slot(host, "1-a", 1)
    host.flip(live)
    with pytest.raises(ReleaseError) as caught:
        through(host)
    assert host.live() == live
    assert host.slots() == [live]
    assert not [path for path in host.run_dir.iterdir() if "2-b" in path.name]
    emperor.close()
    yield str(caught.value)


def test_a_broken_import_fails_and_leaves_nothing(owned: AppHost) -> None:
    for message in failing(owned, None):
        assert "2-b is not healthy: uWSGI could not start it. It was removed; 1-a goes on serving" in message
        assert "the last lines" in message


def test_503_on_ready_fails_and_leaves_nothing(owned: AppHost) -> None:
    for message in failing(owned, lambda _: answer(503, "no database")):
        assert "/health/ready answered 503 instead of 200: no database" in message


def each_request_takes_a_second(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Let the gate's time pass with the requests that are put into the list, however busy this machine is."""
    asked: list[object] = []
    clock = SimpleNamespace(monotonic=lambda: float(len(asked)), sleep=time.sleep, time=time.time)
    monkeypatch.setattr(gates, "time", clock)
    return asked


def test_an_app_that_hangs_up_fails_and_leaves_nothing(owned: AppHost, monkeypatch: pytest.MonkeyPatch) -> None:
    put_release(owned, "2-b")
    asked = each_request_takes_a_second(monkeypatch)
    emperor = FakeEmperor(owned.layout, lambda _: asked.append)
    health = manifest_of("2-b")["settings"]["health"] | {"timeout_s": 2}
    with pytest.raises(ReleaseError, match=r"within 2 s; at last closed the connection without an answer.*nothing was"):
        through(owned, settings={"health": health})
    emperor.close()
    assert owned.slots() == []


def test_an_app_that_does_not_answer_fails(owned: AppHost, monkeypatch: pytest.MonkeyPatch) -> None:
    put_release(owned, "2-b")
    asked, over = each_request_takes_a_second(monkeypatch), threading.Event()

    def respond(request: dict[str, str]) -> None:
        asked.append(request)
        over.wait()

    emperor = FakeEmperor(owned.layout, lambda _: respond)
    health = manifest_of("2-b")["settings"]["health"] | {"timeout_s": 0.3}
    with pytest.raises(ReleaseError, match="it took the request and did not answer it"):
        through(owned, settings={"health": health})
    over.set()
    emperor.close()


@pytest.mark.usefixtures("emperor")
def test_a_socket_of_the_wrong_group_fails_and_leaves_nothing(owned: AppHost) -> None:
    put_release(owned, "2-b")
    with pytest.raises(ReleaseError, match=r"NGINX could not reach it: .*expected group no-such-group with 0050"):
        through(owned, clients="no-such-group")
    assert owned.slots() == []


@pytest.mark.usefixtures("emperor")
def test_a_directory_that_anyone_can_enter_fails(owned: AppHost) -> None:
    owned.run_dir.chmod(0o2755)
    put_release(owned, "2-b")
    with pytest.raises(ReleaseError, match="anyone on the host could reach it"):
        through(owned)


def test_a_socket_that_went_away_is_a_problem(owned: AppHost) -> None:
    found = gates._socket_problem(owned, Slot("api", "2-b", 1), GROUP)
    assert found
    assert "went away" in found


def test_without_an_emperor_the_gate_says_so_and_leaves_nothing(owned: AppHost) -> None:
    put_release(owned, "2-b")
    with pytest.raises(ReleaseError, match=r"the app's Emperor is not running on this host"):
        through(owned)
    assert owned.slots() == []


def test_a_release_that_is_not_complete_is_not_started(owned: AppHost) -> None:
    with pytest.raises(ReleaseError, match="not complete on this host; nothing was started"):
        through(owned)
    assert owned.slots() == []


def test_a_host_that_was_not_provisioned_is_told_so(place: Path) -> None:
    bare = AppHost("api", host_in(place, "other").layout)
    bare.releases_dir.mkdir(parents=True)
    put_release(bare, "2-b")
    with pytest.raises(ReleaseError, match="was not provisioned for this app"):
        through(bare)


def test_a_live_and_healthy_slot_of_the_release_is_kept(owned: AppHost, emperor: FakeEmperor) -> None:
    put_release(owned, "2-b")
    first, _ = through(owned)
    owned.flip(first)
    assert through(owned)[0] == first
    assert emperor.started == [f"{first.name}.ini"]


@pytest.mark.usefixtures("emperor")
def test_a_live_slot_that_is_ill_is_replaced_under_another_name(owned: AppHost) -> None:
    put_release(owned, "2-b")
    ill = Slot("api", "2-b", 1)
    dead = FakeSlot(owned, ill, 500)
    owned.flip(ill)
    slot, _ = through(owned)
    dead.close()
    assert slot.number > ill.number


def test_a_slot_is_removed_with_its_files(owned: AppHost, emperor: FakeEmperor) -> None:
    put_release(owned, "2-b")
    slot, _ = through(owned)
    gates.remove_slot(owned, slot)
    assert [path for path in owned.run_dir.iterdir() if Slot.parse(path.stem)] == []
    assert emperor.slots == {}


@pytest.mark.parametrize(("loaded", "expected"), [("before", []), ("meanwhile", []), ("never", [signal.SIGQUIT])])
def test_only_a_slot_that_loads_is_ended_by_a_signal(
    owned: AppHost, monkeypatch: pytest.MonkeyPatch, loaded: str, expected: list[int]
) -> None:
    slot = Slot("api", "2-b", 1)
    vassal = vassal_of(slot, owned)
    vassal.touch()
    sent: list[tuple[int, bool]] = []
    looks: list[int] = []
    monkeypatch.setattr(emperors, "signal_process", lambda *args: sent.append((args[-1], vassal.exists())))
    monkeypatch.setattr(gates, "SIGNAL_S", 60)
    if loaded == "before":
        owned.stats(slot).touch()

    def known(connection: socket.socket) -> None:
        looks.append(len(sent))
        # The Emperor hears of it a little later.
        heard = looks.count(1) > 2
        if heard and loaded == "meanwhile":
            owned.stats(slot).touch()
        ended = len(sent) > 1 or looks.count(1) > 12
        entry = {"id": vassal.name, "pid": 4712, "accepting": 1, "cursed": 1_790_000_000 if heard else 0}
        connection.sendall(json.dumps({"pid": 4711, "vassals": [] if ended else [entry]}).encode())

    emperor = Server(owned.emperor_stats(Emperor("api", 1)), known)
    gates.remove_slot(owned, slot, timeout_s=60)
    emperor.close()
    # Never before the file is gone: the Emperor would start it again.
    assert sent == [(number, False) for number in (signal.SIGWINCH, *expected)]
    assert not expected or looks.count(1) > 2, "before the Emperor lets it end"
    assert not owned.stats(slot).exists()


def test_an_emperor_that_is_late_has_not_said_that_a_slot_is_gone(
    owned: AppHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    slot, late, sent = Slot("api", "2-b", 1), [TimeoutError()] * 6, list[int]()
    vassal = vassal_of(slot, owned)
    vassal.touch()
    owned.socket(slot).touch()

    def stats(path: Path, _: float = 0) -> dict[str, Any]:
        if path == owned.stats(slot):
            raise FileNotFoundError(path)
        assert owned.socket(slot).exists(), "its files were removed while it was there"
        if late and not vassal.exists():
            raise late.pop()
        entry = {"id": vassal.name, "pid": 4712, "accepting": 1, "cursed": 1_790_000_000}
        return {"pid": 4711, "vassals": [] if signal.SIGQUIT in sent else [entry]}

    monkeypatch.setattr(uwsgi, "stats", stats)
    monkeypatch.setattr(emperors, "signal_process", lambda *args: sent.append(args[-1]))
    monkeypatch.setattr(gates, "SIGNAL_S", 60)
    gates.remove_slot(owned, slot, timeout_s=60)
    assert late == []
    assert sent == [signal.SIGQUIT], "it had not loaded, so it was ended by a signal"
    assert not owned.socket(slot).exists()


def test_the_emperor_is_asked_to_look_now(host: AppHost, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[tuple[int, int]] = []
    monkeypatch.setattr(emperors, "signal_process", lambda *args: sent.append(args[-2:]))
    own = Emperor("api", 1)
    gates.rescan(host, own)  # without an Emperor there is nobody to ask
    server = Server(host.emperor_stats(own), lambda connection: connection.sendall(b'{"pid": 4711}'))
    gates.rescan(host, own)
    server.close()
    assert sent == [(4711, signal.SIGWINCH)]


def test_waiting_ends() -> None:
    assert gates.wait_until(lambda: True, 0) is True
    assert gates.wait_until(lambda: False, 0.01) is False


def test_a_group_without_a_name_is_shown_by_its_number() -> None:
    assert gates._group_name(4_000_000) == "4000000"


@pytest.mark.usefixtures("emperor")
def test_a_live_slot_is_started_again_where_that_is_asked_for_or_its_emperor_is_outdated(owned: AppHost) -> None:
    put_release(owned, "2-b")
    first, _ = through(owned)
    owned.flip(first)
    assert through(owned)[0] == first
    again, _ = through(owned, again=True)
    assert (again.release, again.number) == (first.release, first.number + 1)
    owned.flip(again)
    with (owned.layout.emperor / "emperor.ini").open("a", encoding="utf-8") as file:
        file.write("# changed\n")
    third, _ = through(owned)
    assert third.number == again.number + 1
    king = owned.emperor_of(third)
    assert king
    assert king != owned.emperor_of(again)
