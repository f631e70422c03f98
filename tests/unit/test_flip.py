"""Flip and bake: what traffic says, which facts undo a flip, and which do not."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fakes import FakeSlot, a_run, put_release, put_slot

from praetor.documents import Bake, Journal
from praetor.host import drain as drains
from praetor.host import flip as flips
from praetor.host import uwsgi
from praetor.host.drain import Drain
from praetor.host.flip import AccessLog, Limits, Request, Traffic, Watch, breach, flip_and_bake, requests, traffic, undo
from praetor.host.journal import append, phase
from praetor.host.layout import AppHost, ReleaseError, Slot
from praetor.host.uwsgi import Counters

LIMITS = Limits(bake_s=1, max_5xx_ratio=0.01, max_p95_factor=3, min_requests=20)
NOTHING = Traffic()
FINE = Traffic(1000, 0, 0.1)
START = Counters(requests=2, busy=0, exceptions=0, ended=0, respawns=0, workers=2)


def counted(**changes: int) -> Counters:
    return Counters(**{**START._asdict(), "requests": 1002, **changes})


def judge(since: Traffic = FINE, before: Traffic = FINE, now: Counters | None = counted()) -> str | None:  # noqa: B008  frozen
    return breach(LIMITS, before, since, START, now)


def test_fine_traffic_is_no_breach() -> None:
    assert judge() is None


def test_no_traffic_is_no_breach() -> None:
    assert judge(NOTHING, NOTHING, START) is None


def test_a_slot_whose_stats_are_silent_breaches() -> None:
    assert judge(now=None) == "the slot's stats server does not answer any more"


def test_a_request_that_took_too_long_breaches() -> None:
    said = judge(now=counted(ended=2, respawns=2))
    assert said == "2 requests took longer than limits.request_s, and their worker was killed"


def test_a_worker_that_died_breaches() -> None:
    assert judge(now=counted(respawns=1)) == "1 workers died"


def test_a_worker_that_died_before_the_flip_is_no_breach() -> None:
    earlier = Counters(**{**START._asdict(), "respawns": 3, "ended": 1, "exceptions": 500})
    assert breach(LIMITS, FINE, FINE, earlier, counted(respawns=3, ended=1, exceptions=500)) is None


def test_too_many_failures_breach() -> None:
    said = judge(Traffic(1000, 11, 0.1))
    assert said == "11 of 1000 requests were answered with 5xx (1.1%); 1.0% are allowed, 0.0% it was before"


def test_failures_within_the_limit_are_no_breach() -> None:
    assert judge(Traffic(1000, 10, 0.1)) is None


def test_failures_of_a_few_requests_are_no_breach() -> None:
    assert judge(Traffic(19, 18, 0.1)) is None


def test_three_failures_and_not_one_success_breach_a_quiet_site() -> None:
    assert judge(Traffic(2, 2, 0.1)) is None
    assert judge(Traffic(3, 3, 0.1)) is not None


def test_what_was_bad_before_is_not_the_releases_fault() -> None:
    assert judge(Traffic(100, 30, 0.1), Traffic(100, 30, 0.1)) is None
    assert judge(Traffic(100, 31, 0.1), Traffic(100, 30, 0.1)) is not None
    assert judge(Traffic(100, 100, 0.1), Traffic(100, 100, 0.1)) is None


def test_one_bad_request_before_excuses_nothing() -> None:
    assert judge(Traffic(1000, 1000, 0.1), Traffic(1, 1, 0.1)) is not None


def test_exceptions_that_the_app_did_not_catch_breach() -> None:
    assert judge(now=counted(exceptions=11)) == "11 of 1000 requests ended in an exception that the app did not catch"
    assert judge(now=counted(exceptions=10)) is None


def test_an_exception_in_a_few_requests_is_no_breach() -> None:
    assert judge(NOTHING, now=counted(requests=21, exceptions=19)) is None


def test_a_p95_that_rose_breaches() -> None:
    assert judge(Traffic(1000, 0, 0.31, 0.31)) == "p95 rose from 100 to 310 ms; a factor of 3 is allowed"


@pytest.mark.parametrize(
    ("since", "before"),
    [
        (Traffic(1000, 0, 0.30, 0.30), FINE),
        (Traffic(1000, 0, 0.25, 0.25), Traffic(1000, 0, 0.01)),
        (Traffic(19, 0, 9.0, 9.0), FINE),
        (Traffic(1000, 0, 9.0, 9.0), Traffic(19, 0, 0.1)),
    ],
    ids=["within the factor", "fast all the same", "few requests since", "few requests before"],
)
def test_a_p95_is_no_breach_when(since: Traffic, before: Traffic) -> None:
    assert judge(since, before) is None


@pytest.mark.parametrize(("slow", "breached"), [(4, False), (5, True)])
def test_a_few_slow_requests_among_the_first_are_no_risen_p95(slow: int, breached: bool) -> None:  # noqa: FBT001
    times = [0.01] * (20 - slow) + [1.5] * slow
    since = traffic([Request(200, seconds, 0.0) for seconds in times], 0.0)
    assert since.p95_s == 1.5
    assert (judge(since, Traffic(1000, 0, 0.01)) is not None) == breached


def line(status: int = 200, seconds: float = 0.1, ended: float | None = None, **more: Any) -> bytes:
    """A line of the access log."""
    entry = {"ts": time.time() if ended is None else ended, "status": status, "request_time_s": seconds, **more}
    return json.dumps(entry).encode() + b"\n"


def test_traffic_is_summed_up() -> None:
    found = traffic([Request(200 if number else 503, number / 100, 0.0) for number in range(100)], 0.0)
    assert found == Traffic(100, 1, 0.94, 0.86)
    assert found.ratio == 0.01
    assert traffic([], 0.0) == NOTHING
    assert NOTHING.ratio == 0


def test_a_request_that_was_under_way_at_the_flip_is_the_old_slots() -> None:
    found = requests([line(502, 30.0, ended=1010.0), line(200, 1.0, ended=1010.0)])
    assert traffic(found, 1000.0) == Traffic(1, 0, 1.0, 1.0)


@pytest.mark.parametrize(
    "garbage",
    [b"", b"\n", b"{", b"[]", b"7", b'"x"', b'{"status": 200}', line(200, ended=0)[:-9], line() + line(), b"\xff\xfe"],
)
def test_garbage_in_the_log_is_passed_over(garbage: bytes) -> None:
    assert requests([garbage]) == []


def test_any_bytes_of_a_client_are_counted_and_no_error() -> None:
    raw = b'{"ts": 1.5, "status": 500, "request_time_s": 0.5, "uri": "/\xff\xc3\xe2\x80\xa8"}'
    assert requests([raw]) == [Request(500, 0.5, 1.0)]


@pytest.fixture
def log(place: Path) -> Path:
    """Return the path of an access log."""
    return place / "access.log"


def test_the_log_is_read_on_from_where_it_was(log: Path) -> None:
    log.write_bytes(b"one\ntwo\n")
    reader = AccessLog(log)
    assert reader.since() == []
    with log.open("ab") as file:
        file.write(b"three\nfour\n")
    assert reader.since() == [b"three", b"four"]
    assert reader.since() == []


def test_half_a_line_waits_for_its_other_half(log: Path) -> None:
    log.touch()
    reader = AccessLog(log)
    with log.open("ab", buffering=0) as file:
        file.write(b"one\ntw\xff")
        assert reader.since() == [b"one"]
        assert reader.since() == []
        file.write(b"\xffo\n")
    assert reader.since() == [b"tw\xff\xffo"]


def test_a_line_separator_of_unicode_ends_no_line(log: Path) -> None:
    log.touch()
    reader = AccessLog(log)
    log.write_bytes("a\u2028b\x85c\n".encode())
    assert reader.since() == ["a\u2028b\x85c".encode()]


def test_a_rotated_log_is_read_from_its_beginning(log: Path) -> None:
    log.write_bytes(b"old\n" * 3)
    reader = AccessLog(log)
    log.rename(log.with_suffix(".1"))
    assert reader.since() == []
    log.write_bytes(b"a new line that is longer than all the old\n")
    assert reader.since() == [b"a new line that is longer than all the old"]


def test_a_log_that_was_cut_is_read_from_its_beginning(log: Path) -> None:
    log.write_bytes(b"old\n" * 3)
    reader = AccessLog(log)
    log.write_bytes(b"new\n")
    assert reader.since() == [b"new"]


def test_a_log_that_does_not_exist_yet_is_empty(log: Path) -> None:
    reader = AccessLog(log)
    assert [requests(reader.before()), reader.since()] == [[], []]
    log.write_bytes(b"first\n")
    assert reader.since() == [b"first"]


def test_before_is_what_was_written_last(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log.write_bytes(line(500) * 50 + line(200) * 2)
    assert traffic(requests(AccessLog(log).before()), 0.0).requests == 52
    monkeypatch.setattr(flips, "BEFORE_BYTES", 2 * len(line(200)) + 5)
    assert traffic(requests(AccessLog(log).before()), 0.0) == Traffic(2, 0, 0.1, 0.1)


class Scene:
    """A live slot of 1-a, a gated slot of 2-b, NGINX's log."""

    def __init__(self, host: AppHost, log: Path) -> None:
        self.host, self.log = host, log
        self.later: list[bytes] = []
        self.looks = 0
        put_release(host, "1-a")
        put_release(host, "2-b")
        self.old, self.new = put_slot(host, "1-a", 1), put_slot(host, "2-b", 2)
        self.slots = [FakeSlot(host, slot) for slot in (self.old, self.new)]
        host.flip(self.old)
        append(host, {"action": "release", "from": None, "to": "1-a", "result": "ok"})
        self.journal: Journal = {"run": a_run(), "phase": "flip", "since": 0.0, "expires": 0.0}

    def bake(self, slot: Slot | None = None, bake_s: float = 0.3) -> Bake:
        """Flip and bake."""
        limits = Limits(bake_s, 0.01, 3, 20)
        with phase(self.host, a_run(), "flip", begins=True) as self.journal:
            return flip_and_bake(self.host, slot or self.new, limits, self.log, self.journal)

    def write(self, *lines: bytes) -> None:
        """Let NGINX write lines right after the flip."""
        self.later += lines


@pytest.fixture
def scene(host: AppHost, log: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    """Return a host that is about to flip."""
    monkeypatch.setattr(flips, "WATCH_S", 0.05)
    monkeypatch.setattr(flips, "last_lines", lambda *_: "Traceback")
    found = Scene(host, log)
    bake, look = flips._bake, Watch.look

    def baked(*given: Any) -> str | None:
        with log.open("ab") as file:
            file.writelines(found.later)
        return bake(*given)

    def looked(watch: Watch) -> None:
        look(watch)
        found.looks += 1

    monkeypatch.setattr(flips, "_bake", baked)
    monkeypatch.setattr(Watch, "look", looked)
    yield found
    for slot in found.slots:
        slot.close()


def test_a_good_slot_stays_live_and_its_facts_are_told(scene: Scene) -> None:
    scene.log.write_bytes(line(200, 0.2))
    scene.write(line(200, 0.0, ended=time.time() + 600))
    facts = scene.bake()
    assert scene.host.live() == scene.new
    assert scene.journal["previous"] == scene.old.name
    assert facts["flipped"] is True
    assert facts["before"]["requests"] == 1
    assert facts["since"]["requests"] == 1


def test_a_slot_that_fails_under_traffic_is_flipped_back_at_the_next_look(scene: Scene) -> None:
    scene.write(line(500, 0.0, ended=time.time() + 600) * 3)
    with pytest.raises(
        ReleaseError, match=r"2-b failed under traffic .*3 of 3 requests.*1-a serves again.*\nTraceback"
    ):
        scene.bake(bake_s=30)
    assert scene.looks == 1
    assert scene.host.live() == scene.old
    assert "3 of 3" in json.loads(scene.host.run_file.read_text(encoding="utf-8"))["reason"]


def test_a_bake_of_no_time_takes_one_look(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    assert scene.bake(bake_s=0)["flipped"] is True
    scene.host.flip(scene.old)
    monkeypatch.setattr(flips, "_counters", lambda *_: counted(respawns=1))
    with pytest.raises(ReleaseError, match="1 workers died"):
        scene.bake(bake_s=0)


def test_the_time_of_the_bake_is_used_to_watch_the_old_slot_fall_quiet(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(drains, "QUIET_S", 0.1)
    monkeypatch.setattr(flips, "PROBE_S", 60)
    scene.bake()
    assert scene.slots[0].asked, "the old slot's backlog was probed"
    assert Drain(scene.host, scene.old, scene.journal["drain"]).look(60) is True
    assert len(scene.slots[0].asked) == 1, "and not once more"


def test_an_old_slot_that_ends_by_itself_is_no_matter_of_the_bake(scene: Scene) -> None:
    scene.slots[0].close()
    assert scene.bake()["flipped"] is True


def test_one_silent_look_is_borne_and_three_are_not(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([None, None, START, None, None, None])
    monkeypatch.setattr(flips, "_counters", lambda *_: next(answers))
    with pytest.raises(ReleaseError, match="stats server does not answer any more"):
        scene.bake(bake_s=30)
    assert next(answers, "used up") == "used up"


def test_a_slot_without_stats_is_never_flipped_to(scene: Scene) -> None:
    scene.slots.pop().close()
    with pytest.raises(OSError, match="No such file"):
        scene.bake()
    assert scene.host.live() == scene.old


def test_a_slot_that_tells_its_figures_late_is_flipped_to(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    counters = uwsgi.counters
    waited: list[float] = []

    def late(path: Path, timeout_s: float = uwsgi.STATS_S) -> Counters:
        if path == scene.host.stats(scene.new) and not waited:
            if timeout_s <= uwsgi.STATS_S:
                raise TimeoutError
            waited.append(timeout_s)
        return counters(path, timeout_s)

    monkeypatch.setattr(uwsgi, "counters", late)
    scene.bake()
    assert scene.host.live() == scene.new
    assert waited == [60], "as long as the gate waits"


def test_a_slot_that_never_tells_its_figures_is_not_flipped_to(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(path: Path, timeout_s: float = uwsgi.STATS_S) -> Counters:
        raise TimeoutError(f"{path} {timeout_s}")

    monkeypatch.setattr(uwsgi, "counters", never)
    with pytest.raises(TimeoutError, match="2-b was healthy, but gave no figures within 60 s; it was not made live"):
        scene.bake()
    assert scene.host.live() == scene.old


def test_old_incidents_in_the_log_excuse_nothing(scene: Scene) -> None:
    scene.log.write_bytes(line(500, 0.1, ended=time.time() - flips.BEFORE_S - 5) * 100)
    scene.write(line(500, 0.0, ended=time.time() + 600) * 30)
    with pytest.raises(ReleaseError, match=r"0\.0% it was before"):
        scene.bake(bake_s=5)


def test_a_settled_release_is_not_baked_again(scene: Scene) -> None:
    assert scene.bake(scene.old, bake_s=30) == {"flipped": False}


def test_a_live_slot_that_nobody_settled_is_baked_without_a_flip(scene: Scene) -> None:
    scene.host.flip(scene.new)
    facts = scene.bake()
    assert facts["flipped"] is False
    assert "since" in facts
    assert "previous" not in scene.journal


def test_what_was_live_is_in_the_journal_before_the_flip(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    monkeypatch.setattr(
        AppHost, "flip", lambda host, _: seen.append(json.loads(host.run_file.read_text(encoding="utf-8"))["previous"])
    )
    scene.bake(bake_s=0)
    assert seen == [scene.old.name]


def test_undo_leaves_alone_what_this_run_did_not_flip(scene: Scene) -> None:
    assert undo(scene.host, scene.journal) == "It was never live in this run."
    assert scene.host.live() == scene.old


def test_undo_of_the_very_first_release_leaves_nothing_live(scene: Scene) -> None:
    scene.journal["previous"] = None
    assert undo(scene.host, scene.journal) == "Nothing was live before it, so nothing serves now."
    assert scene.host.live() is None
    undo(scene.host, scene.journal)


def test_undo_twice_is_undo_once(scene: Scene) -> None:
    scene.bake(bake_s=0)
    for _ in range(2):
        assert undo(scene.host, scene.journal) == "1-a serves again."
        assert scene.host.live() == scene.old
