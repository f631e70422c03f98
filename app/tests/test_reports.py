"""Reports and their worker, on both databases: each is made, by one worker, also when others die or end."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

from api import worker
from api.config import Loaded
from api.config.model import Reports
from api.database import Database, UnavailableError
from api.domain import reports
from conftest import database_of, until

LEASE = timedelta(seconds=60)
SETTINGS = Reports(poll_s=0.5)


def ask(client: FlaskClient) -> str:
    """Ask for a report; returns where it is."""
    response = client.post("/reports")
    assert (response.status_code, response.get_json()["state"]) == (201, "waiting")
    return response.headers["Location"]


def taken(database: Database, tries: int = 3, lease: timedelta = LEASE) -> reports.Task | None:
    with database.write() as session:
        return reports.take(session, lease, tries)


def test_report_says_what_there_is(client: FlaskClient, app: Flask) -> None:
    for name, kind, quantity in (("hammer", "tool", 2), ("saw", "tool", 3), ("nail", "part", 500)):
        client.post("/items", json={"name": name, "kind": kind, "quantity": quantity})
    place = ask(client)
    assert worker.step(database_of(app), SETTINGS) == 0
    found = client.get(place)
    assert (found.get_json()["state"], found.get_json()["stock"]) == ("done", {"tool": 5, "part": 500})
    assert found.get_json()["ended_at"] >= found.get_json()["created_at"]
    assert found.headers["Cache-Control"] == "no-store"
    assert worker.step(database_of(app), SETTINGS) == 0.5, "nothing is left"


def test_unknown_report_is_404(client: FlaskClient) -> None:
    assert client.get("/reports/01890a5d-ac96-774b-bcce-b302099a8057").status_code == 404
    assert client.get("/reports/x").status_code == 422


def test_oldest_report_is_made_first_and_none_is_taken_twice(client: FlaskClient, app: Flask) -> None:
    places = [ask(client) for _ in range(3)]
    tasks = [taken(database_of(app)) for _ in range(4)]
    assert [task and f"/reports/{task.id}" for task in tasks] == [*places, None]


def test_many_workers_at_once_take_each_report_once(client: FlaskClient, app: Flask) -> None:
    places = [ask(client) for _ in range(20)]
    with ThreadPoolExecutor(4) as pool:
        tasks = list(pool.map(lambda _: taken(database_of(app)), range(24)))
    # PostgreSQL may tell somebody that there is nothing while another is about to take the last one.
    found = [f"/reports/{task.id}" for task in tasks if task]
    assert sorted(found) == sorted(places)


@pytest.mark.parametrize("kind", [pytest.param("postgresql", marks=pytest.mark.postgresql)], indirect=True)
def test_worker_does_not_wait_for_one_that_is_taking(client: FlaskClient, app: Flask) -> None:
    first, second = ask(client), ask(client)
    with database_of(app).write() as session:
        task = reports.take(session, LEASE, 3)
        assert task
        assert f"/reports/{task.id}" == first
        other = taken(database_of(app))
    assert other
    assert f"/reports/{other.id}" == second


def test_report_of_a_worker_that_died_is_made_again(client: FlaskClient, app: Flask) -> None:
    place = ask(client)
    database = database_of(app)
    dead = taken(database, lease=timedelta(0))
    assert dead
    again = taken(database)
    assert again == reports.Task(dead.id, 2)
    with database.write() as session:
        assert not reports.end(session, dead, {"tool": 1}), "it was not dead, only late"
    with database.write() as session:
        assert reports.end(session, again, {"tool": 2})
    with database.write() as session:
        assert not reports.end(session, again, {"tool": 3}), "it has ended"
    assert client.get(place).get_json()["stock"] == {"tool": 2}


def test_report_that_kills_every_worker_fails_in_the_end(client: FlaskClient, app: Flask) -> None:
    bad, good = ask(client), ask(client)
    for _ in range(2):
        task = taken(database_of(app), tries=2, lease=timedelta(0))
        assert task
        assert f"/reports/{task.id}" == bad
    task = taken(database_of(app), tries=2)
    assert task
    assert f"/reports/{task.id}" == good
    found = client.get(bad).get_json()
    assert (found["state"], found["stock"]) == ("failed", None)
    assert found["ended_at"]


def test_report_is_queued_with_its_transaction_or_not_at_all(app: Flask) -> None:
    def break_off() -> None:
        with database_of(app).write() as session:
            reports.create(session)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        break_off()
    assert taken(database_of(app)) is None


@pytest.mark.parametrize("error", [UnavailableError(), ZeroDivisionError()])
def test_worker_outlives_what_goes_wrong(
    client: FlaskClient,
    app: Flask,
    error: Exception,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    place = ask(client)

    def make(_: object) -> dict[str, int]:
        raise error

    monkeypatch.setattr(reports, "make", make)
    assert worker.step(database_of(app), SETTINGS) == 5
    assert type(error).__name__ in capsys.readouterr().err
    assert client.get(place).get_json()["state"] == "waiting"


@contextmanager
def working(**variables: str) -> Iterator[subprocess.Popen[bytes]]:
    """A worker as systemd runs it."""
    command = [sys.executable, "-m", "api.worker"]
    with subprocess.Popen(command, env={**os.environ, **variables}, stderr=subprocess.PIPE) as process:
        try:
            yield process
        finally:
            process.kill()


def test_worker_says_that_it_is_ready_and_ends_when_it_is_asked_to(
    client: FlaskClient, loaded: Loaded, tmp_path: Path
) -> None:
    address = str(tmp_path / "notify")
    place = ask(client)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(address)
        heard.settimeout(60)
        with working(NOTIFY_SOCKET=address) as process:
            assert heard.recv(100) == b"READY=1"
            until(lambda: client.get(place).get_json()["state"] == "done", "the report is done")
            process.send_signal(signal.SIGTERM)
            assert heard.recv(100) == b"STOPPING=1"
            assert process.wait(60) == 0
            assert process.stderr
            assert b'"ended"' in process.stderr.read()


SLOW = """
import time
from api import worker
from api.domain import reports
quick = reports.make
def make(session):
    open("begun", "w").close()
    time.sleep(1)
    return quick(session)
reports.make = make
raise SystemExit(worker.main())
"""


def test_worker_that_is_asked_to_end_finishes_its_report_and_begins_no_other(
    client: FlaskClient, loaded: Loaded, tmp_path: Path
) -> None:
    places = [ask(client) for _ in range(2)]
    command = [sys.executable, "-c", SLOW]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL) as process:
        until((tmp_path / "begun").exists, "the first report is begun")
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    assert [client.get(place).get_json()["state"] for place in places] == ["done", "waiting"]


def test_worker_that_was_killed_loses_no_report(
    client: FlaskClient, loaded: Loaded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = ask(client)
    monkeypatch.setenv("API_REPORTS__LEASE_S", "1")
    with subprocess.Popen([sys.executable, "-c", SLOW], cwd=tmp_path, stderr=subprocess.DEVNULL) as process:
        until((tmp_path / "begun").exists, "the report is begun")
        process.kill()
    assert client.get(place).get_json()["state"] == "waiting"
    with working() as process:
        until(lambda: client.get(place).get_json()["state"] == "done", "another worker has made it")
        process.terminate()
        assert process.wait(60) == 0


def test_worker_refuses_a_wrong_configuration(base: dict[str, str]) -> None:
    with working(API_REPORTS__TRIES="many") as process:
        assert process.wait(60) == 1
        assert process.stderr
        assert b"reports.tries" in process.stderr.read()
