"""One scrape, seen by Prometheus: real sockets, real files of prometheus_client, and every way in which they can be broken."""

import json
import os
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from scraped import RELEASE, SLOT, Host, app_key, key, stats, worker

from app_exporter.__main__ import Handler, serve
from app_exporter.backlog import listening_backlogs
from app_exporter.problems import Problems
from app_exporter.scrape import Exporter, Settings
from app_exporter.uwsgi import notes, slot_samples
from praetor.host.gate import wait_until


@pytest.fixture
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """Return a host; a short path, because a socket's may have 107 bytes."""
    made = Host(tmp_path_factory.mktemp("h"))
    yield made
    for connection in made.open:
        connection.close()


# --- uWSGI


def test_what_a_slots_watch_ended_and_its_workers_failed_to_load_is_counted(tmp_path: Path) -> None:
    (tmp_path / "watch.json").write_text('{"pid": 7, "ended": {"1": 3}}', encoding="utf-8")
    (tmp_path / "2.json").write_text('{"failures": 4, "error": "away"}', encoding="utf-8")
    (tmp_path / "3.json").write_text("[]", encoding="utf-8")
    answer = json.dumps({"load": 0, "workers": [worker(1), worker(2)]}).encode()
    found = {(name, labels): value for _, name, _, value, labels in slot_samples(answer, notes(tmp_path))}
    assert found["uwsgi_worker_harakiri_total", (("worker", "1"),)] == 1 + 3
    assert found["uwsgi_worker_harakiri_total", (("worker", "2"),)] == 1
    assert found["uwsgi_worker_load_failures", (("worker", "2"),)] == 4


def test_a_worker_is_described_by_its_own_figures(host: Host) -> None:
    host.stats_server(stats(worker(1), worker(2, requests=9, status="busy", respawn_count=1)))
    samples = host.scrape()
    assert samples[key("uwsgi_slot_up")] == 1
    assert samples[key("uwsgi_workers")] == 2
    assert samples[key("uwsgi_worker_requests_total", worker="1")] == 7
    assert samples[key("uwsgi_worker_requests_total", worker="2")] == 9
    assert samples[key("uwsgi_worker_exceptions_total", worker="1")] == 2
    assert samples[key("uwsgi_worker_harakiri_total", worker="1")] == 1
    assert samples[key("uwsgi_worker_respawns_total", worker="1")] == 2
    assert samples[key("uwsgi_worker_respawns_total", worker="2")] == 0
    assert samples[key("uwsgi_worker_request_seconds_total", worker="1")] == 1.5
    assert samples[key("uwsgi_worker_average_request_seconds", worker="1")] == 0.0025
    assert samples[key("uwsgi_worker_resident_memory_bytes", worker="1")] == 1 << 20
    assert samples[key("uwsgi_worker_cores", worker="1")] == 2
    assert samples[key("uwsgi_worker_busy_cores", worker="1")] == 1
    assert samples[key("uwsgi_worker_write_errors_total", worker="1")] == 2
    assert samples[key("uwsgi_worker_state", worker="2", state="busy")] == 1
    assert samples[key("uwsgi_worker_state", worker="2", state="idle")] == 0
    assert host.errors(samples) == {}


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"not JSON",
        stats(worker(1))[:-40],
        b"[]",
        stats(worker(1), workers="none"),
        stats({"id": 1}),
        stats(worker(1, requests="many")),
        stats(worker(1, cores=[1])),
        b"[" * 100000,
        b"\xff\xfe",
    ],
    ids=[
        "empty", "text", "half", "other", "no workers", "no figures", "text for a number", "no cores", "deep", "bytes"
    ],
)  # fmt: skip
def test_a_broken_answer_of_a_stats_server_is_named_and_the_rest_is_served(host: Host, answer: bytes) -> None:
    other = f"api.{RELEASE}.2"
    host.stats_server(answer)
    host.stats_server(stats(worker(1)), other)
    samples = host.scrape()
    assert samples[key("uwsgi_slot_up")] == 0
    assert key("uwsgi_workers") not in samples
    assert samples[key("uwsgi_worker_requests_total", worker="1", slot=other)] == 7
    assert host.errors(samples) == {("stats", SLOT): 1}
    assert host.errors(host.scrape()) == {("stats", SLOT): 2}


def test_stats_servers_are_asked_at_the_same_time(host: Host) -> None:
    slots = [f"api.{RELEASE}.{count}" for count in range(1, 9)]
    # None answers before all have been asked.
    met = threading.Barrier(len(slots))
    for slot in slots:
        host.stats_server(stats(worker(1)), slot, first=met.wait)
    samples = host.scrape()
    assert [samples[key("uwsgi_slot_up", slot=slot)] for slot in slots] == [1] * len(slots)
    assert host.errors(samples) == {}


def test_stats_servers_that_never_end_take_the_figures_of_no_other_slot(host: Host) -> None:
    host.exporter = Exporter(replace(host.exporter.settings, timeout_s=0.3))
    hanging = [f"api.{RELEASE}.{count}" for count in range(1, 9)]
    for slot in hanging:
        host.stats_server(stats(worker(1)), slot, hang=True)
    host.stats_server(stats(worker(1)), f"api.{RELEASE}.9")
    # On a busy machine also a good answer may come too late for one scrape.
    assert wait_until(lambda: host.scrape()[key("uwsgi_slot_up", slot=f"api.{RELEASE}.9")] == 1, 60)
    samples = host.scrape()
    assert [samples[key("uwsgi_slot_up", slot=slot)] for slot in hanging] == [0] * len(hanging)
    assert {("stats", slot) for slot in hanging} <= set(host.errors(samples))


def test_a_stats_socket_that_nobody_listens_on_is_named(host: Host) -> None:
    host.listen(host.slots / f"{SLOT}.stats").close()
    samples = host.scrape()
    assert samples[key("uwsgi_slot_up")] == 0
    assert ("stats", SLOT) in host.errors(samples)


def test_a_slot_that_is_just_starting_is_not_up_and_no_error(host: Host) -> None:
    (host.slots / f"{SLOT}.metrics").mkdir()
    samples = host.scrape()
    assert samples[key("uwsgi_slot_up")] == 0
    assert host.errors(samples) == {}


def test_names_that_are_no_slots_are_not_read(host: Host) -> None:
    for name in ("emperor.stats", "other.1.0-00000000.1.stats", 'api.x"\n.1.stats', "api.1.0-00000000.stats"):
        host.listen(host.slots / name)
    samples = host.scrape()
    assert samples[app_key("praetor_slots")] == 0
    assert not [name for name, _ in samples if name.startswith("uwsgi_")]


def test_an_application_cannot_flood_the_scrape_with_slots(host: Host) -> None:
    for count in range(40):
        (host.slots / f"api.{RELEASE}.{count}.metrics").mkdir()
    samples = host.scrape()
    assert ("slots", "api") in host.errors(samples)
    assert samples[app_key("praetor_slots")] == 0


def test_the_backlog_is_the_kernels(host: Host) -> None:
    server = host.listen(host.slots / f"{SLOT}.sock", backlog=5)
    host.stats_server(stats(worker(1)))
    for _ in range(3):
        client = socket.socket(socket.AF_UNIX)
        client.connect(server.getsockname())
        host.open.append(client)
    samples = host.scrape()
    assert samples[key("uwsgi_backlog_connections")] == 3
    assert samples[key("uwsgi_backlog_limit_connections")] == 5
    assert listening_backlogs()[server.getsockname()] == (3, 5)


# --- releases


def test_the_live_slot_and_its_time_come_from_the_symlink(host: Host) -> None:
    host.listen(host.slots / f"{SLOT}.sock")
    host.stats_server(stats(worker(1)))
    link = host.app / "live.sock"
    link.symlink_to(host.slots / f"{SLOT}.sock")
    os.utime(link, (1000, 1795362659), follow_symlinks=False)
    samples = host.scrape()
    assert samples[key("praetor_live_info")] == 1
    assert samples[app_key("praetor_live_since_timestamp_seconds")] == 1795362659
    assert samples[app_key("praetor_live_up")] == 1


def test_a_live_symlink_to_nothing_is_not_up(host: Host) -> None:
    (host.app / "live.sock").symlink_to(host.slots / f"{SLOT}.sock")
    samples = host.scrape()
    assert samples[key("praetor_live_info")] == 1
    assert samples[app_key("praetor_live_up")] == 0


def test_processes_and_jobs_alone_are_live_and_serve_nobody(host: Host) -> None:
    (host.app / "live.sock").symlink_to(host.slots / f"{SLOT}.units")
    samples = host.scrape()
    assert samples[key("praetor_live_info")] == 1
    assert app_key("praetor_live_up") not in samples


def test_an_application_that_was_never_released_is_not_up(host: Host) -> None:
    samples = host.scrape()
    assert samples[app_key("praetor_live_up")] == 0
    assert samples[app_key("praetor_releases")] == 1
    assert samples[app_key("praetor_lock_held")] == 0
    assert samples[app_key("praetor_frozen")] == 0
    assert not [name for name, _ in samples if name.startswith("praetor_deploy")]
    assert host.errors(samples) == {}


def test_what_lies_beside_the_applications_is_none(host: Host) -> None:
    (host.apps / ".wheels").mkdir()
    (host.run / "Not-An-App").mkdir()
    assert {dict(labels)["app"] for name, labels in host.scrape() if name == "praetor_slots"} == {"api"}


def write_history(host: Host, *entries: dict[str, Any] | str) -> None:
    """Write a history."""
    lines = (entry if isinstance(entry, str) else json.dumps(entry) + "\n" for entry in entries)
    (host.app / "history.jsonl").write_text("".join(lines))


FAILED = {
    "ts": "2026-11-22T16:09:29Z",
    "action": "release",
    "from": None,
    "to": RELEASE,
    "result": "failed",
    "duration_s": 2.5,
}


def test_the_last_release_counts_and_commands_of_it_do_not(host: Host) -> None:
    write_history(
        host,
        {**FAILED, "result": "ok"},
        FAILED,
        {"ts": "2026-11-22T16:09:30Z", "action": "migrate", "to": RELEASE, "result": "ok", "output": "x" * 70000},
        '{"ts": "2026-11-22T17:00:00Z", "action": "rel',
    )
    samples = host.scrape()
    labels = {"action": "release", "from": "", "to": RELEASE, "result": "failed"}
    assert samples[app_key("praetor_deploy_last_info", **labels)] == 1
    assert samples[app_key("praetor_deploy_last_success")] == 0
    assert samples[app_key("praetor_deploy_last_duration_seconds")] == 2.5
    assert samples[app_key("praetor_deploy_last_timestamp_seconds")] == 1795363769
    assert host.errors(samples) == {}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("history.jsonl", "garbage\n"),
        ("history.jsonl", json.dumps({**FAILED, "ts": "yesterday"}) + "\n"),
        ("history.jsonl", json.dumps({**FAILED, "duration_s": None}) + "\n"),
        ("run.json", '{"run": '),
        ("run.json", "{}"),
        ("freeze.json", "[]"),
        ("freeze.json", '{"until": "never"}'),
    ],
)
def test_a_broken_file_of_releases_is_named_and_the_rest_is_served(host: Host, name: str, text: str) -> None:
    (host.app / name).write_text(text)
    samples = host.scrape()
    assert host.errors(samples) == {("releases", name): 1}
    assert samples[app_key("praetor_releases")] == 1


def test_a_run_and_a_freeze_are_seen(host: Host) -> None:
    run = {"run": {"id": "1", "action": "rollback"}, "since": 1795362659.5, "phase": "gate", "expires": 1795369999}
    (host.app / "run.json").write_text(json.dumps(run))
    until = time.time() + 3600
    (host.app / "freeze.json").write_text(json.dumps({"until": until, "reason": "audit", "by": "ops"}))
    samples = host.scrape()
    assert samples[app_key("praetor_lock_held")] == 1
    assert samples[app_key("praetor_lock_info", action="rollback", phase="gate")] == 1
    assert samples[app_key("praetor_lock_since_timestamp_seconds")] == 1795362659.5
    assert samples[app_key("praetor_frozen")] == 1
    assert samples[app_key("praetor_frozen_until_timestamp_seconds")] == until


def test_a_freeze_that_is_over_is_none(host: Host) -> None:
    (host.app / "freeze.json").write_text(json.dumps({"until": time.time() - 1}))
    assert host.scrape()[app_key("praetor_frozen")] == 0


# --- errors are told


def test_a_problem_is_told_when_it_begins_and_when_it_ends_and_not_between(capsys: pytest.CaptureFixture[str]) -> None:
    problems = Problems()
    for broken in (True, True, True, False, False):
        problems.begin()
        if broken:
            problems.note("api", "stats", SLOT, "not JSON")
        problems.end(["api"], [SLOT])
    assert capsys.readouterr().err.splitlines() == [
        f"api: stats '{SLOT}': not JSON",
        f"api: stats '{SLOT}': well again",
    ]
    assert problems.counts == {("api", "stats", SLOT): 3}


def test_the_errors_of_a_slot_end_with_it() -> None:
    problems = Problems()
    problems.begin()
    problems.note("api", "stats", SLOT, "not JSON")
    problems.note("api", "metrics", f"{SLOT}.metrics/counter_w1.db", "broken")
    problems.end(["api"], [SLOT])
    problems.begin()
    problems.end(["api"], [])
    assert problems.counts == {}


def test_the_names_of_errors_are_bounded() -> None:
    problems = Problems()
    problems.begin()
    for count in range(5000):
        problems.note("api", "metrics", f"{SLOT}.metrics/{count}.db", "broken")
    assert len(problems.counts) <= Problems.MAX_NAMES + 1
    assert problems.counts["api", "metrics", "others"] == 5000 - Problems.MAX_NAMES


# --- over HTTP


@pytest.fixture
def url(host: Host) -> Iterator[str]:
    """Serve the host's metrics."""
    with serve("127.0.0.1:0", host.exporter) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_metrics_are_served_in_the_text_format(host: Host, url: str) -> None:
    host.stats_server(stats(worker(1)))
    with urllib.request.urlopen(f"{url}/metrics") as response:  # noqa: S310  the server of this test
        assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert "Python" not in response.headers["Server"]
        assert b"uwsgi_worker_requests_total" in response.read()


def test_nothing_but_metrics_is_served(url: str) -> None:
    with pytest.raises(urllib.error.HTTPError, match="404") as caught:
        urllib.request.urlopen(f"{url}/")  # noqa: S310  the server of this test
    caught.value.close()


def test_a_client_that_says_nothing_keeps_nobody_waiting(host: Host, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Handler, "timeout", 3600)  # one that waited for them would not answer here
    address = url.removeprefix("http://").split(":")
    silent = [socket.create_connection((address[0], int(address[1]))) for _ in range(5)]
    host.open += silent
    with urllib.request.urlopen(f"{url}/metrics", timeout=60) as response:  # noqa: S310  the server of this test
        assert response.status == 200


def test_a_drained_host_is_seen_with_the_time_since_when(host: Host) -> None:
    assert host.scrape()[("praetor_host_drained", frozenset())] == 0
    assert ("praetor_host_drained_since_timestamp_seconds", frozenset()) not in host.scrape()
    host.drained.write_text("not JSON: NGINX does not read it either", encoding="utf-8")
    os.utime(host.drained, (0, 1_700_000_000))
    samples = host.scrape()
    assert samples[("praetor_host_drained", frozenset())] == 1
    assert samples[("praetor_host_drained_since_timestamp_seconds", frozenset())] == 1_700_000_000


def test_it_works_without_any_application(tmp_path: Path) -> None:
    text = Exporter(Settings(tmp_path / "none", tmp_path / "nowhere")).scrape().decode()
    assert "app_exporter_scrape_duration_seconds" in text
