"""What is seen on a host without changing it, and how it is shown."""

import json
from pathlib import Path
from typing import Any

import pytest
from fakes import FakeSlot, a_run, answer, host_in, manifest_of, put_release, put_slot, vassal_of

from praetor.documents import Manifest
from praetor.host.journal import append, mark_bad, phase
from praetor.host.layout import AppHost, Slot
from praetor.host.stage import python_tag
from praetor.host.survey import health, survey
from praetor.run import notes, tables

TAG = python_tag()


@pytest.fixture
def wanted() -> Manifest:
    """Return the manifest of a release that is wanted."""
    return manifest_of("1-a", wheels={TAG: [{"file": "a.whl", "sha256": "aa"}]})


@pytest.fixture
def settled(host: AppHost, wanted: Manifest) -> AppHost:
    """Return a host where all is as it should be."""
    put_release(host, "1-a", wheels=wanted["wheels"])
    host.flip(put_slot(host, "1-a", 1))
    append(host, {"action": "release", "from": None, "to": "1-a", "result": "ok"})
    return host


def test_a_host_where_all_is_as_wanted_needs_nothing(settled: AppHost, wanted: Manifest) -> None:
    found = survey(settled, wanted)
    assert (found["live"], found["slot"], found["running"], found["settled"]) == ("1-a", "api.1-a.1", True, True)
    assert (found["staged"], found["missing"], found["needed"]) == (True, [], False)
    assert found["manifest"] == settled.manifest("1-a")
    assert str(found["since"]).endswith("Z")


def not_running(host: AppHost) -> None:
    vassal_of(Slot("api", "1-a", 1), host).unlink()


def not_settled(host: AppHost) -> None:
    append(host, {"action": "release", "from": "1-a", "to": "9-z", "result": "ok"})


def locked(host: AppHost) -> None:
    with phase(host, a_run(), "gate", begins=True):
        pass


def left_over(host: AppHost) -> None:
    host.release_dir("2-b").mkdir()


def another_slot(host: AppHost) -> None:
    put_slot(host, "1-a", 2)


def another_live(host: AppHost) -> None:
    host.flip(put_slot(host, "0-z", 2))
    vassal_of(Slot("api", "1-a", 1), host).unlink()


@pytest.mark.parametrize("change", [not_running, not_settled, locked, left_over, another_slot, another_live])
def test_a_host_needs_the_release_when_it_is(settled: AppHost, wanted: Manifest, change: Any) -> None:
    change(settled)
    assert survey(settled, wanted)["needed"] is True


def test_a_bare_host_is_seen_as_it_is(place: Path, wanted: Manifest) -> None:
    bare = AppHost("api", host_in(place, "other").layout)
    found = survey(bare, wanted)
    assert (found["provisioned"], found["live"], found["since"]) == (False, None, None)
    assert (found["needed"], found["missing"]) == (True, ["aa"])
    assert not bare.root.exists()


def test_an_artifact_for_another_python_is_left_to_the_plan(settled: AppHost) -> None:
    found = survey(settled, manifest_of("2-b", wheels={"cp27": []}))
    assert found["missing"] == []
    assert found["needed"] is True


def test_a_healthy_slot_is_seen_so(settled: AppHost) -> None:
    slot = FakeSlot(settled, Slot("api", "1-a", 1))
    found = health(settled, "api.example.org")
    assert (found["health"], found["workers"], found["busy"], found["path"]) == ("healthy", 1, 0, "/health/ready")
    assert slot.asked[0]["HTTP_HOST"] == "api.example.org"
    slot.respond = lambda _: answer(503)
    assert health(settled, "x")["health"] == "/health/ready answers 503"
    slot.close()
    assert health(settled, "x")["health"].startswith("no answer: ")


def test_nothing_live_is_said_so(host: AppHost) -> None:
    assert health(host, "x")["health"] == "nothing is live"


def seen(host: AppHost, **more: Any) -> Any:
    """What a host's survey module returns."""
    state = {**survey(host), **health(host, "api.example.org"), **more}
    return {"apps": {"api": state}, "others": [], "address": "192.0.2.1"}


def test_status_has_a_row_for_each_host_also_for_a_silent_one(settled: AppHost) -> None:
    silent: Any = {"unreachable": True, "msg": "timed out", "address": "x"}
    one, two = tables.status({"web1": seen(settled, health="healthy", workers=2, busy=1), "web2": silent})
    assert (one["live"], one["workers"], one["health"]) == ("1-a", "2 (1 busy)", "healthy")
    assert (two["host"], two["live"], two["health"]) == ("web2", "-", "no answer: timed out")


def test_a_slot_that_should_run_and_does_not_is_named(settled: AppHost) -> None:
    not_running(settled)
    [row] = tables.status({"web1": seen(settled)})
    assert row["health"] == "api.1-a.1 does not run"


def test_a_host_that_was_not_provisioned_is_named(place: Path) -> None:
    bare = AppHost("api", host_in(place, "other").layout)
    [row] = tables.status({"web1": seen(bare)})
    assert (row["live"], row["health"], row["workers"]) == ("-", "not provisioned", "0")


def test_the_demo_has_a_line_to_try(settled: AppHost) -> None:
    plain: Any = {**seen(settled), "tls": False}
    silent: Any = {"unreachable": True, "address": "x"}
    [row] = tables.demo({"web1": plain, "web2": silent})
    assert row["try"] == "curl -H 'Host: api.example.org' http://192.0.2.1/health/ready"
    trusted = "curl --resolve api.example.org:443:192.0.2.1 https://api.example.org/health/ready"
    plain |= {"tls": True, "authority": ""}
    [row] = tables.demo({"web1": plain})
    assert row["try"] == trusted
    plain["authority"] = "~/a.pem"
    [row] = tables.demo({"web1": plain})
    assert row["try"] == trusted.replace("curl", "curl --cacert ~/a.pem")
    [row] = tables.demo({"web1": plain, "web2": plain})
    assert row["host"] == "web1, web2", "clients reach both at one address"


def test_the_history_of_all_hosts_is_in_one_order() -> None:
    events: Any = [
        {
            "ts": "2026-01-02",
            "action": "release",
            "from": "1-a",
            "to": "2-b",
            "result": "failed",
            "reason": "5xx\nmore",
        },
        {"ts": "2026-01-04", "action": "migrate", "to": "2-b", "why": "x" * 200},
    ]
    first: Any = {
        "ts": "2026-01-03",
        "action": "rollback",
        "from": None,
        "to": "1-a",
        "result": "ok",
        "by": "ann",
        "why": "",
    }
    surveys: Any = {
        "web1": {"apps": {"api": {"history": events}}},
        "web2": {"apps": {"api": {"history": [first]}}},
        "web3": {},
    }
    rows = tables.history(surveys)
    assert [(row["when"], row["host"]) for row in rows] == [
        ("2026-01-02", "web1"),
        ("2026-01-03", "web2"),
        ("2026-01-04", "web1"),
    ]
    assert (rows[0]["why"], rows[0]["reason"], rows[1]["from"]) == ("", "5xx", "-")
    assert (rows[1]["why"], rows[2]["why"], rows[2]["reason"]) == ("", "x" * 100, "")


def test_notes_say_what_stands_out(settled: AppHost) -> None:
    assert notes.notes({"web1": seen(settled)}) == []
    locked(settled)
    left_over(settled)
    not_settled(settled)
    mark_bad(settled, "2-b", "5xx")
    freeze = {"until": 9e9, "by": "ann", "reason": "sale"}
    (settled.root / "freeze.json").write_text(json.dumps(freeze), encoding="utf-8")
    silent: Any = {"unreachable": True}
    found = seen(settled)
    found["apps"]["api"]["refused"] = ["192.0.2.1:443/tcp"]
    old = {"process": "worker", "number": 0, "release": "0-z", "restarts": 0, "ended": "exit status 1"}
    found["apps"]["api"]["processes"] = [
        {**old, "instance": number, "state": state}
        for number, state in enumerate(("deactivating", "active", "failed"), start=1)
    ]
    text = "\n".join(notes.notes({"web1": found | {"others": ["old"]}, "web2": silent}))
    for words in (
        "web1: old is on the host and not in the inventory; playbooks/remove.yml -e app=old removes it",
        "api is locked by ann@desk in phase gate",
        f"has leftovers of an interrupted run, which the next run repairs: {settled.release_dir('2-b')}",
        "api is frozen by ann: sale",
        "web1: api tried to connect to 192.0.2.1:443/tcp since a day ago, which its egress does not allow",
        "api 1-a was not settled",
        "api is draining 0-z worker 1",
        "api still runs 0-z worker 2",
        "api had 0-z worker 3 end with a failure when it was told to end; journalctl -u app-api-worker-0@3",
    ):
        assert words in text


def test_each_table_has_a_name() -> None:
    assert set(tables.TABLES) == {"status", "demo", "history"}
