import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from flask import Flask
from sqlalchemy import text
from sqlalchemy.exc import OperationalError, ProgrammingError

from api import context
from api.config import Loaded, load
from api.database import Database, UnavailableError, url
from conftest import database_of

Make = Callable[[Loaded], Flask]
ITEM = {"name": "hammer", "kind": "tool"}

ON_POSTGRESQL = pytest.mark.parametrize(
    "kind", [pytest.param("postgresql", marks=pytest.mark.postgresql)], indirect=True
)

SLOW = {
    "sqlite": "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n",
    "postgresql": "SELECT pg_sleep(10)",
}


@contextmanager
def deadline(seconds: float) -> Iterator[None]:
    token = context.current.set(context.Request("a" * 32, None, time.monotonic() + seconds))
    try:
        yield
    finally:
        context.current.reset(token)


def test_slow_statement_ends_with_the_deadline(app: Flask, kind: str) -> None:
    started = time.monotonic()
    with deadline(0.2), pytest.raises(context.DeadlineExceededError), database_of(app).read() as session:
        session.execute(text(SLOW[kind]))
    assert time.monotonic() - started < 9


def test_no_transaction_begins_after_the_deadline(app: Flask) -> None:
    with deadline(-1), pytest.raises(context.DeadlineExceededError), database_of(app).read() as session:
        session.execute(text("SELECT 1"))


def test_waiting_for_another_writer_ends_with_503(loaded: Loaded, environ: dict[str, str], make_app: Make) -> None:
    patient, hasty = make_app(loaded), make_app(load(environ | {"API_HTTP__DEADLINE_S": "1"}))
    place = patient.test_client().post("/items", json=ITEM).headers["Location"]
    with database_of(patient).write() as session:
        session.execute(text("UPDATE items SET quantity = 5"))
        response = hasty.test_client().patch(place, json={"quantity": 6}, headers={"If-Match": "*"})
    assert (response.status_code, response.headers["Retry-After"]) == (503, "1")
    assert patient.test_client().get(place).get_json()["quantity"] == 5


@ON_POSTGRESQL
def test_exhausted_pool_ends_with_503(environ: dict[str, str], loaded: Loaded, make_app: Make) -> None:
    app = make_app(load(environ | {"API_HTTP__DEADLINE_S": "2", "API_DATABASE__POOL_SIZE": "1"}))
    with database_of(app).read() as session:
        session.execute(text("SELECT 1"))
        assert app.test_client().get("/items").status_code == 503
    assert app.test_client().get("/items").status_code == 200


@ON_POSTGRESQL
def test_lost_connections_cost_no_request(app: Flask) -> None:
    client = app.test_client()
    assert client.get("/items").status_code == 200
    with database_of(app).write() as session:
        session.execute(text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"))
    assert client.get("/items").status_code == 200


def test_broken_transaction_leaves_nothing(app: Flask) -> None:
    client = app.test_client()
    place = client.post("/items", json=ITEM).headers["Location"]

    def break_off() -> None:
        with database_of(app).write() as session:
            session.execute(text("UPDATE items SET quantity = 5"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        break_off()
    assert client.get(place).get_json()["quantity"] == 0


def test_mistake_in_a_statement_is_no_failure_of_the_database(app: Flask) -> None:
    with pytest.raises((ProgrammingError, OperationalError)), database_of(app).read() as session:
        session.execute(text("SELECT 1 FROM nowhere"))


def test_each_process_has_connections_of_its_own(app: Flask) -> None:
    database = database_of(app)
    with database.read() as session:
        ours = session.get_bind()
    queue = multiprocessing.get_context("fork").SimpleQueue()
    if (pid := os.fork()) == 0:
        with database.read() as session:
            theirs = session.get_bind()
            queue.put((theirs is not ours, session.execute(text("SELECT 1")).scalar(), database.unready()))
        os._exit(0)
    os.waitpid(pid, 0)
    assert queue.get() == (True, 1, None)
    with database.read() as session:
        assert session.get_bind() is ours
        assert session.execute(text("SELECT 1")).scalar() == 1


def test_concurrent_first_uses_share_one_engine(loaded: Loaded, make_app: Make) -> None:
    database = database_of(make_app(loaded))
    together = threading.Barrier(4)
    found = []

    def use() -> None:
        together.wait()
        with database.read() as session:
            found.append(session.get_bind())

    threads = [threading.Thread(target=use) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({id(engine) for engine in found}) == 1


def test_probe_that_breaks_is_not_ready_and_logs_what_broke(
    app: Flask, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    database = database_of(app)
    monkeypatch.setattr(database, "look", lambda: 1 / 0)
    assert database.unready() == "cannot be looked at"
    assert "ZeroDivisionError" in capsys.readouterr().err
    monkeypatch.undo()
    assert database.unready() is None


def test_unusable_file_is_named_as_unavailable(base: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "items.db").write_text("this is no database, it is a text of some length" * 99)
    loaded = load(base)
    database = Database(loaded.settings.database, loaded.identity.data_dir, 1)
    with pytest.raises(UnavailableError), database.read() as session:
        session.execute(text("SELECT 1"))
    database.close()


def test_url_gets_its_password_and_its_place(base: dict[str, str], tmp_path: Path) -> None:
    postgres = {"API_DATABASE__URL": "postgresql+psycopg://api@db/items", "API_DATABASE__PASSWORD": "p@ss"}
    found = url(load(base | postgres).settings.database, tmp_path)
    assert (found.password, found.host) == ("p@ss", "db")
    assert url(load(base).settings.database, tmp_path).database == str(tmp_path / "items.db")
    absolute = load(base | {"API_DATABASE__URL": "sqlite:////elsewhere/x.db"})
    assert url(absolute.settings.database, tmp_path).database == "/elsewhere/x.db"


def test_unavailable_database_is_said_without_its_address(base: dict[str, str], tmp_path: Path, make_app: Make) -> None:
    target = f"postgresql+psycopg://api@/api?host={tmp_path}"
    client = make_app(load(base | {"API_DATABASE__URL": target})).test_client()
    response = client.post("/items", json=ITEM)
    assert (response.status_code, response.headers["Retry-After"]) == (503, "5")
    assert response.get_json()["detail"] == "The database does not answer."
