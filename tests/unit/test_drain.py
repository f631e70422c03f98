"""The end of an old slot's work: probed, then quiet for a second, in one phase of a run or over several."""

import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from fakes import FakeSlot, answer, put_release, put_slot, slow

from praetor.documents import DrainState
from praetor.host import drain as drains
from praetor.host import uwsgi
from praetor.host.drain import Drain
from praetor.host.layout import AppHost


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait less."""
    monkeypatch.setattr(drains, "QUIET_S", 0.05)
    monkeypatch.setattr(drains, "LOOK_S", 0.02)


@pytest.fixture
def slot(host: AppHost) -> Iterator[FakeSlot]:
    """Return a slot that runs without an Emperor."""
    put_release(host, "1-a")
    found = FakeSlot(host, put_slot(host, "1-a", 1))
    yield found
    found.close()


def test_a_quiet_slot_is_drained_after_a_probe_and_a_quiet_second(host: AppHost, slot: FakeSlot) -> None:
    began = time.monotonic()
    assert Drain(host, slot.slot).wait(60) is True
    assert time.monotonic() - began >= drains.QUIET_S
    assert [asked["PATH_INFO"] for asked in slot.asked] == ["/health/ready"]


def test_a_slot_with_a_request_is_waited_for_no_longer_than_asked(host: AppHost, slot: FakeSlot) -> None:
    slot.counts["busy"] = 1
    assert Drain(host, slot.slot).wait(0.3) is False


def test_a_slot_that_still_counts_requests_is_not_quiet(
    host: AppHost, slot: FakeSlot, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers = iter(range(1000))
    monkeypatch.setattr(uwsgi, "counters", lambda _: uwsgi.Counters(next(numbers), 0, 0, 0, 0, 1))
    assert Drain(host, slot.slot).wait(0.3) is False


def test_a_slot_that_ended_needs_no_drain(host: AppHost, slot: FakeSlot) -> None:
    slot.close()
    assert Drain(host, slot.slot).wait(60) is True


def test_a_slot_that_is_too_busy_to_answer_is_not_taken_for_gone(host: AppHost, slot: FakeSlot) -> None:
    slot.respond = slow(0.6)
    slot.counts["busy"] = 1
    assert Drain(host, slot.slot).wait(0.3) is False


def test_stats_that_are_silent_once_do_not_end_a_drain(
    host: AppHost, slot: FakeSlot, monkeypatch: pytest.MonkeyPatch
) -> None:
    busy = uwsgi.Counters(5, 1, 0, 0, 0, 1)
    idle = uwsgi.Counters(6, 0, 0, 0, 0, 1)
    answers: Iterator[Any] = iter([busy, TimeoutError(), ValueError()])

    def counters(_: object) -> uwsgi.Counters:
        found = next(answers, idle)
        if isinstance(found, Exception):
            raise found
        assert isinstance(found, uwsgi.Counters)
        return found

    monkeypatch.setattr(uwsgi, "counters", counters)
    assert Drain(host, slot.slot).wait(60) is True
    assert next(answers, None) is None


def test_a_later_phase_goes_on_with_what_an_earlier_one_saw(host: AppHost, slot: FakeSlot) -> None:
    earlier = Drain(host, slot.slot)
    earlier.look(60)
    earlier.look(60)
    time.sleep(drains.QUIET_S)
    noted = json.loads(json.dumps(earlier.state))
    assert Drain(host, slot.slot, noted).look(60) is True
    assert len(slot.asked) == 1


def test_a_request_between_two_phases_begins_the_quiet_time_anew(host: AppHost, slot: FakeSlot) -> None:
    earlier = Drain(host, slot.slot)
    earlier.look(60)
    earlier.look(60)
    time.sleep(drains.QUIET_S)
    slot.counts["requests"] += 1
    later = Drain(host, slot.slot, earlier.state)
    assert later.look(60) is False
    time.sleep(drains.QUIET_S)
    assert later.look(60) is True


def test_a_request_in_flight_begins_the_quiet_time_anew(host: AppHost, slot: FakeSlot) -> None:
    drain = Drain(host, slot.slot)
    drain.look(60)
    drain.look(60)
    slot.counts["busy"] = 1
    time.sleep(drains.QUIET_S)
    assert drain.look(60) is False
    slot.counts["busy"] = 0
    assert drain.look(60) is False
    time.sleep(drains.QUIET_S)
    assert drain.look(60) is True


def test_what_was_seen_of_another_slot_does_not_count(host: AppHost, slot: FakeSlot) -> None:
    seen: DrainState = {"slot": "api.0-z.7", "probed": True, "requests": 0, "since": 0.0}
    drain = Drain(host, slot.slot, seen)
    assert drain.look(60) is False
    assert drain.state["slot"] == slot.slot.name
    assert len(slot.asked) == 1


def test_a_probe_that_is_not_taken_is_sent_again(host: AppHost, slot: FakeSlot) -> None:
    free = threading.Event()

    def respond(_: dict[str, str]) -> bytes:
        free.wait()
        return answer(200)

    slot.respond = respond
    drain = Drain(host, slot.slot)
    assert drain.look(0.05) is False
    assert drain.state["probed"] is False
    free.set()
    assert drain.wait(60) is True
