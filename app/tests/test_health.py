import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import text

from api.config import Loaded, load
from api.migrations import HEAD
from conftest import Postgres, database_of, free_port

Make = Callable[[Loaded], Flask]


def test_alive_and_ready(client: FlaskClient) -> None:
    assert client.get("/health/live").json == {"status": "ok"}
    assert client.get("/health/ready").json == {"status": "ok"}


def test_version_names_the_release(client: FlaskClient) -> None:
    found = client.get("/version").get_json()
    assert (found["app"], found["release"], found["profile"]) == ("api", "1.0.0-test", "staging")
    assert found["uwsgi"] is None


def test_version_is_not_looked_up_for_each_request(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    monkeypatch.setattr("pathlib.Path.open", lambda path, *_, **__: opened.append(str(path)))
    monkeypatch.setattr("pathlib.Path.read_text", lambda path, *_, **__: opened.append(str(path)))
    assert client.get("/version").get_json()["version"] == "1.0.0"
    assert opened == []


def test_without_migrations_it_is_alive_but_not_ready(environ: dict[str, str], tmp_path: Path, make_app: Make) -> None:
    (tmp_path / "data").mkdir()
    client = make_app(load(environ)).test_client()
    ready = client.get("/health/ready")
    assert (ready.status_code, ready.mimetype, ready.headers["Retry-After"]) == (503, "application/problem+json", "5")
    assert ready.get_json()["detail"] == f"database: schema none, needs {HEAD}: run python -m api.migrate"
    assert client.get("/health/live").status_code == 200


@pytest.mark.parametrize(("revision", "status"), [("0000", 503), ("9999", 200)])
def test_older_schema_is_not_ready_but_a_newer_one_is(app: Flask, revision: str, status: int) -> None:
    with database_of(app).write() as session:
        session.execute(text("UPDATE alembic_version SET version_num = :revision"), {"revision": revision})
    assert app.test_client().get("/health/ready").status_code == status


def test_missing_directory_is_not_ready(base: dict[str, str], make_app: Make) -> None:
    ready = make_app(load(base)).test_client().get("/health/ready")
    assert (ready.status_code, ready.get_json()["detail"]) == (
        503,
        "database: unreachable",
    )


def test_server_that_is_not_there_is_not_ready(base: dict[str, str], tmp_path: Path, make_app: Make) -> None:
    url = f"postgresql+psycopg://api@/api?host={tmp_path}"
    client = make_app(load(base | {"API_DATABASE__URL": url})).test_client()
    ready = client.get("/health/ready")
    assert (ready.status_code, ready.get_json()["detail"]) == (503, "database: unreachable")
    assert client.get("/items").status_code == 503


UNUSABLE = {
    "refused": "postgresql+psycopg://somebody@127.0.0.1:{port}/customers",
    "unknown name": "postgresql+psycopg://somebody@db.secret.invalid/customers",
    "no socket": "postgresql+psycopg://somebody@/customers?host=/nowhere",
    "no such database": "postgresql+psycopg://api@/customers?host={postgres}",
    "no such user": "postgresql+psycopg://somebody@/postgres?host={postgres}",
    "no directory": "sqlite:////nowhere/customers.db",
}


@pytest.mark.postgresql
@pytest.mark.parametrize("url", UNUSABLE.values(), ids=list(UNUSABLE))
def test_public_is_told_nothing_about_the_database(
    base: dict[str, str], make_app: Make, url: str, postgres: Postgres, capsys: pytest.CaptureFixture[str]
) -> None:
    target = url.format(port=free_port(), postgres=postgres.directory)
    client = make_app(load(base | {"API_DATABASE__URL": target})).test_client()
    for response in (client.get("/health/ready"), client.get("/items")):
        assert response.status_code == 503
        answer = f"{response.text} {response.headers}"
        told = re.search(r"127\.0|secret|invalid|somebody|customers|psycopg|sqlite|nowhere|/dev/shm|FATAL", answer)
        assert told is None, answer
    assert re.search("127\\.0|secret|somebody|customers|nowhere|unable", capsys.readouterr().err), "the log tells it"


@contextmanager
def silent_server() -> Iterator[int]:
    """Takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def test_silent_server_is_not_ready_within_the_time_and_costs_two_threads(base: dict[str, str], make_app: Make) -> None:
    with silent_server() as port:
        url = f"postgresql+psycopg://api@127.0.0.1:{port}/api"
        more = {
            "API_DATABASE__URL": url,
            "API_DATABASE__READY_TIMEOUT_S": "0.2",
            "API_DATABASE__CONNECT_TIMEOUT_S": "2",
        }
        client = make_app(load(base | more)).test_client()
        before = threading.active_count()
        for _ in range(3):
            ready = client.get("/health/ready")
            assert (ready.status_code, ready.get_json()["detail"]) == (503, "database: no answer within 0.2 s")
        assert threading.active_count() <= before + 2  # one that looks, and one that connects
        assert client.get("/health/live").status_code == 200
    for thread in threading.enumerate():
        if thread.name == "database-probe":
            thread.join(10)
