"""An app of processes and jobs alone: it has no slot and no site, and everything else of a release."""

from __future__ import annotations

from functools import partial
from typing import Any, cast

import pytest
from fakes import Units, a_run, await_slot, manifest_of, process, put_release, put_slot
from project import imported

from praetor.build import parts
from praetor.documents import Entry, PhaseAnswer
from praetor.host import flip as flips
from praetor.host import phases, processes, survey
from praetor.host import site as sites
from praetor.host.journal import append, history, phase
from praetor.host.layout import AppHost, BakeError, ReleaseError, Slot
from praetor.host.processes import ALONE
from praetor.run import tables

OPTIONS = {"bake_s": 0.05, "max_5xx_ratio": 0.01, "max_p95_factor": 3.0, "min_requests": 20}


def settings(wsgi: str | None = None) -> dict[str, Any]:
    names = {"wsgi": wsgi, "server_names": ["api.example"] if wsgi else [], "processes": [process(per_host=2)]}
    return {"settings": {**manifest_of("1-a")["settings"], **names}}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, host: AppHost, units: Units) -> None:
    monkeypatch.setattr(processes, "ALIVE_S", 0.05)
    monkeypatch.setattr(processes, "LOOK_S", 0.01)
    monkeypatch.setattr(flips, "WATCH_S", 0.02)
    for module in (flips, processes):
        monkeypatch.setattr(module, "last_lines", lambda *_: "(log)")
    monkeypatch.setattr(phases, "AppHost", lambda _: host)
    monkeypatch.setattr(processes, "check", lambda *_: None)
    monkeypatch.setattr(sites, "_reload", lambda: "")
    units.places.add(host.layout.units)


def release(host: AppHost, name: str, wsgi: str | None = None) -> None:
    put_release(host, name, **settings(wsgi))
    text = "server { server_name api.example; }\n" if wsgi else ""
    (host.release_dir(name) / "site.conf").write_text(text, encoding="utf-8")


def travel(name: str, action: str = "rollback", run: str = "r1") -> None:
    """Take a staged release through the phases; a rollback begins with the gate."""
    ask = partial(phases.work, app="api", run=a_run(run, action=action))
    told: dict[str, object] = {"release": name, "drain_s": 1.0}
    gate = ask(phase="gate", told={**told, "server_name": ""})
    flip: dict[str, object] = {"slot": gate["slot"], "limits": OPTIONS, "access_log": "/nonexistent", "place": ALONE}
    ask(phase="flip", told=flip)
    ask(phase="settle", told={**told, "keep": 5})


def test_a_release_starts_its_processes_and_nothing_else(host: AppHost, units: Units) -> None:
    release(host, "1-a")
    travel("1-a")
    assert units.running == ["app-api-worker-1@1.service", "app-api-worker-1@2.service"]
    assert host.live() == Slot("api", "1-a", 1)
    assert host.slots() == []
    assert not host.live_link.exists(), "it points to nothing"
    assert history(host)[-1]["to"] == "1-a"
    state = survey.survey(host, host.manifest("1-a"))
    assert (state["running"], state["needed"], state["leftovers"]) == (True, False, [])
    assert survey.health(host, "")["health"] == "healthy"


def test_another_release_takes_over_and_a_rollback_takes_it_back(host: AppHost, units: Units) -> None:
    for name in ("1-a", "2-b"):
        release(host, name)
        travel(name, run=name)
    assert units.running == ["app-api-worker-2@1.service", "app-api-worker-2@2.service"]
    travel("1-a", run="back")
    assert units.running == ["app-api-worker-3@1.service", "app-api-worker-3@2.service"]
    assert host.live() == Slot("api", "1-a", 3)


def test_the_same_release_is_started_again_where_that_is_asked_for_only(host: AppHost, units: Units) -> None:
    release(host, "1-a")
    travel("1-a")
    travel("1-a", run="r2")
    assert units.running[0] == "app-api-worker-1@1.service"
    travel("1-a", "refresh", run="r3")
    assert units.running == ["app-api-worker-2@1.service", "app-api-worker-2@2.service"]


def test_one_that_ends_by_itself_undoes_the_release(host: AppHost, units: Units) -> None:
    release(host, "1-a")
    travel("1-a")
    release(host, "2-b")
    units.broken.add("2-b")
    with pytest.raises(ReleaseError, match="process worker 1 of 2-b ended by itself"):
        travel("2-b", run="r2")
    assert host.live() == Slot("api", "1-a", 1)
    assert units.running == ["app-api-worker-1@1.service", "app-api-worker-1@2.service"]


def test_one_that_ends_while_it_is_watched_undoes_the_flip(
    host: AppHost, units: Units, monkeypatch: pytest.MonkeyPatch
) -> None:
    release(host, "1-a")
    travel("1-a")
    release(host, "2-b")
    monkeypatch.setattr(processes, "breach", lambda *_: "process worker 1 ended by itself (exit status 1)")
    with pytest.raises(BakeError, match="1-a runs again"):
        travel("2-b", run="r2")
    assert host.live() == Slot("api", "1-a", 1)
    assert units.running == ["app-api-worker-1@1.service", "app-api-worker-1@2.service"]


def test_a_run_that_died_after_its_flip_is_put_back_by_the_next_one(host: AppHost, units: Units) -> None:
    release(host, "1-a")
    travel("1-a")
    release(host, "2-b")
    new = host.next_slot("2-b")
    with phase(host, a_run("r2"), "flip", begins=True) as journal:
        journal["previous"] = "api.1-a.1"
        processes.change(host, new, {"worker": 2}, journal)
        host.flip(new)
    told: dict[str, object] = {"drain_s": 1.0, "break_run": "r2"}
    answer: PhaseAnswer = phases.work(app="api", run=a_run("r3"), phase="lock", told=told)
    assert any("flipped back to 1-a" in sentence for sentence in answer["repaired"])
    assert host.live() == Slot("api", "1-a", 1)
    assert units.running == ["app-api-worker-1@1.service", "app-api-worker-1@2.service"]


@pytest.mark.usefixtures("emperor")
def test_an_app_that_serves_no_more_gives_up_its_slot_and_its_site(host: AppHost, units: Units) -> None:
    release(host, "1-a", "api:app")
    served = put_slot(host, "1-a", 1)
    await_slot(served)
    append(host, {"action": "release", "from": None, "to": "1-a", "result": "ok"})
    host.flip(served)
    place = host.layout.nginx / "sites/api.conf"
    place.write_text("server { server_name api.example; }\n", encoding="utf-8")
    release(host, "2-b")
    travel("2-b")
    assert host.slots() == []
    assert place.read_text(encoding="utf-8") == ""
    assert host.live() == Slot("api", "2-b", 2)
    assert units.running == ["app-api-worker-2@1.service", "app-api-worker-2@2.service"]


def test_nothing_is_rendered_of_a_site_or_a_slot() -> None:
    app = cast("Entry", {"wsgi": None})
    assert parts.vassal(app) == ""
    assert parts.site(app, tls=True) == ""


def test_no_role_hears_of_a_site() -> None:
    filters = imported("plugins/filter/wiring.py").FilterModule().filters()
    http = {"paths": [], "stream_s": 1}
    app: dict[str, Any] = {"name": "mailer", "wsgi": None, "server_names": [], "redirect_names": [], "http": http}
    app |= {"limits": {"request_s": 3600}}
    assert filters["certificate_sites"]([app]) == []
    assert filters["access_logs"]([app]) == []
    assert filters["haproxy_sites"]([app], {}, {}) == []
    assert filters["longest_request_s"]([app]) == 30
    assert filters["survey_targets"]([app]) == {"mailer": ""}
    assert filters["first_sites"]([app], tls=True) == {"/etc/nginx/sites/mailer.conf": ""}


def test_status_shows_its_processes_and_no_workers(host: AppHost) -> None:
    release(host, "1-a")
    travel("1-a")
    state = {**survey.survey(host), **survey.health(host, "")}
    found: Any = {"app1": {"apps": {"api": state}, "address": "198.18.0.1", "tls": True, "authority": ""}}
    [row] = tables.status(found)
    assert (row["live"], row["workers"], row["health"], row["processes"]) == ("1-a", "-", "healthy", "worker 2/2")
    assert tables.demo(found)[0]["try"] == "-"
