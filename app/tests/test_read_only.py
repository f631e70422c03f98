"""A database that can be read and not written is not ready, and no session stays so when it no longer is."""

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
import pytest
from flask import Flask
from flask.testing import FlaskClient

from api import migrate
from api.config import Loaded, load
from conftest import Postgres, database_of, until

Make = Callable[[Loaded], Flask]

ON_POSTGRESQL = pytest.mark.parametrize(
    "kind", [pytest.param("postgresql", marks=pytest.mark.postgresql)], indirect=True
)


_numbers = count(1)


def create(client: FlaskClient) -> int:
    return client.post("/items", json={"name": f"item {next(_numbers)}", "kind": "tool"}).status_code


def ready(client: FlaskClient) -> tuple[int, str | None]:
    response = client.get("/health/ready")
    return response.status_code, response.get_json().get("detail")


@contextmanager
def read_only(postgres: Postgres, database: str) -> Iterator[None]:
    """Sessions that begin now are read-only; those that exist stay as they are, and so do these when it is over."""
    with psycopg.connect(host=str(postgres.directory), dbname="postgres", user="api", autocommit=True) as connection:
        connection.execute(f"ALTER DATABASE {database} SET default_transaction_read_only = on".encode())
        try:
            yield
        finally:
            connection.execute(b"SET default_transaction_read_only = off")
            connection.execute(f"ALTER DATABASE {database} RESET default_transaction_read_only".encode())


@pytest.fixture
def database(environ: dict[str, str], loaded: Loaded) -> str:
    return environ["API_DATABASE__URL"].partition("?")[0].rpartition("/")[2]


@ON_POSTGRESQL
def test_read_only_sessions_are_not_ready_and_none_is_kept(
    loaded: Loaded, postgres: Postgres, database: str, make_app: Make
) -> None:
    client = make_app(loaded).test_client()
    with read_only(postgres, database):
        assert client.get("/items").status_code == 200
        assert ready(client) == (503, "database: read-only")
        assert create(client) == 503
        assert client.get("/items").status_code == 200
    # Sessions of the time before are in the pool, opened by a read and never written with.
    assert create(client) == 201
    assert ready(client) == (200, None)
    assert [create(client) for _ in range(5)] == [201] * 5


@ON_POSTGRESQL
def test_sessions_of_a_server_that_does_not_say_it_are_found_out_too(
    loaded: Loaded, postgres: Postgres, database: str, make_app: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.postgresql.Connection.is_read_only", lambda _: False)  # as before PostgreSQL 14
    client = make_app(loaded).test_client()
    with read_only(postgres, database):
        assert ready(client) == (503, "database: read-only")
        assert create(client) == 503
    assert create(client) == 201
    with read_only(postgres, database):
        database_of(client.application).close()
        assert ready(client) == (503, "database: read-only")
    assert ready(client) == (200, None)


@pytest.fixture
def standby(postgres: Postgres) -> Iterator[tuple[Path, Callable[[], None]]]:
    """Directory of a standby's socket, and a function that promotes it."""
    programs = max(Path("/usr/lib/postgresql").glob("*/bin"))
    owner: dict[str, Any] = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}
    directory = Path(tempfile.mkdtemp(prefix="pg-", dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None))
    if owner:
        shutil.chown(directory, "postgres")
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": directory, **owner}
    data = directory / "data"
    source = f"host={postgres.directory} user=api"
    copy: list[str | Path] = [
        programs / "pg_basebackup",
        "-d",
        source,
        "-D",
        data,
        "--write-recovery-conf",
        "--checkpoint=fast",
    ]
    subprocess.run(copy, check=True, **quiet)
    process = subprocess.Popen([programs / "postgres", "-D", data, "-k", directory, "-h", "", "-F"], **quiet)

    def ask(statement: bytes) -> Any:
        with psycopg.connect(host=str(directory), dbname="postgres", user="api", autocommit=True) as connection:
            row = connection.execute(statement).fetchone()
            return row[0] if row else None

    def answers() -> bool:
        try:
            return bool(ask(b"SELECT pg_is_in_recovery()"))
        except psycopg.OperationalError:
            return False

    def promote() -> None:
        assert ask(b"SELECT pg_promote()")

    try:
        until(answers, "the standby answers")
        yield directory, promote
    finally:
        process.send_signal(signal.SIGQUIT)
        process.wait()
        shutil.rmtree(directory)


@ON_POSTGRESQL
def test_standby_is_not_ready_until_it_is_promoted(
    environ: dict[str, str], database: str, standby: tuple[Path, Callable[[], None]], make_app: Make
) -> None:
    directory, promote = standby
    url = f"postgresql+psycopg://api@/{database}?host={directory}"
    client = make_app(load(environ | {"API_DATABASE__URL": url})).test_client()
    assert client.get("/items").status_code == 200
    assert ready(client) == (503, "database: read-only")
    assert create(client) == 503
    assert client.get("/items").status_code == 200
    promote()
    assert create(client) == 201
    assert ready(client) == (200, None)


def test_file_that_belongs_to_somebody_else_is_not_ready(
    base: dict[str, str], make_app: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As after a restore by root into the app's directory: SQLite opens what it cannot write for reading.
    with tempfile.TemporaryDirectory() as name:
        data = Path(name, "data")
        monkeypatch.setenv("APP_DATA_DIR", str(data))
        assert migrate.main() == 0
        app = make_app(load(base | {"APP_DATA_DIR": str(data)}))
        for path in (Path(name), data):
            path.chmod(0o777)
        (data / "items.db").chmod(0o444)
        if (child := os.fork()) == 0:
            if os.geteuid() == 0:  # whom no mode stops
                os.setresuid(65_534, 65_534, 65_534)
            found = ready(app.test_client())
            written = create(app.test_client())
            os._exit(0 if (found, written) == ((503, "database: read-only"), 503) else 1)
        assert os.waitpid(child, 0)[1] == 0
        (data / "items.db").chmod(0o644)
        assert ready(app.test_client()) == (200, None)
