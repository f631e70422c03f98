"""What all tests share: a database of each test's own, the app on it, and the app under real servers."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from flask import Flask
from flask.testing import FlaskClient

from api import migrate
from api.config import Loaded, load
from api.database import Database
from api.factory import create_app
from api.migrations import HEAD

if TYPE_CHECKING:
    from api.services import Services

ROOT = Path(__file__).parent.parent
_databases = count(1)


@dataclass(frozen=True)
class Postgres:
    """A running server: the directory of its socket and its process."""

    directory: Path
    process: subprocess.Popen[str]

    def create(self) -> str:
        """URL of a new, empty database."""
        name = f"test{next(_databases)}"
        with psycopg.connect(host=str(self.directory), dbname="postgres", user="api", autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        return f"postgresql+psycopg://api@/{name}?host={self.directory}"


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """PostgreSQL from Debian's packages, on a separate socket; as `postgres` if we are root, whom it refuses."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    assert found, "PostgreSQL is missing: `make app-postgresql` installs it, `pytest -m 'not postgresql'` does without"
    owner: dict[str, Any] = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}
    directory = Path(tempfile.mkdtemp(prefix="pg-", dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None))
    if owner:
        shutil.chown(directory, "postgres")
    data = directory / "data"
    options = ["--auth=trust", "--username=api", "--no-sync", "--encoding=UTF8", "--locale=C.UTF-8"]
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "cwd": directory, **owner}
    subprocess.run([found[-1] / "initdb", "-D", str(data), *options], check=True, **quiet)
    arguments = ["-D", str(data), "-k", str(directory), "-h", "", "-F"]
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen([found[-1] / "postgres", *arguments], stderr=log, **quiet)
    try:
        until(lambda: (directory / ".s.PGSQL.5432").exists() and _answers(directory), "PostgreSQL answers")
        yield Postgres(directory, process)
    finally:
        process.send_signal(signal.SIGQUIT)
        process.wait()
        shutil.rmtree(directory)


def _answers(directory: Path) -> bool:
    try:
        psycopg.connect(host=str(directory), dbname="postgres", user="api").close()
    except psycopg.OperationalError:
        return False
    return True


def until(condition: Callable[[], object], what: str, seconds: float = 60) -> None:
    """Wait for something that other processes do."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s in vain: {what}"
        time.sleep(0.01)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgresql)])
def kind(request: pytest.FixtureRequest) -> str:
    """The kind of database; tests that use it run on both."""
    return str(request.param)


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """The platform's part of the environment: profile staging, data in a directory of the test's own."""
    for name in [name for name in os.environ if name.startswith(("APP_", "API_"))]:
        monkeypatch.delenv(name)
    values = {"APP_PROFILE": "staging", "APP_DATA_DIR": str(tmp_path / "data"), "APP_RELEASE": "1.0.0-test"}
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    return values


@pytest.fixture
def environ(
    base: dict[str, str], kind: str, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> dict[str, str]:
    """As `base`, with a database of the kind under test, still empty."""
    if kind == "sqlite":
        return base
    if "postgresql" in request.getfixturevalue("migrated") and "loaded" in request.fixturenames:
        return base
    url = request.getfixturevalue("postgres").create()
    monkeypatch.setenv("API_DATABASE__URL", url)
    return base | {"API_DATABASE__URL": url}


@pytest.fixture(scope="session")
def migrated() -> dict[str, str]:
    """What migrations made of an empty database: for SQLite a file to copy, for PostgreSQL a URL to use again."""
    return {}


@pytest.fixture
def loaded(
    environ: dict[str, str],
    kind: str,
    migrated: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> Loaded:
    """The configuration, with a database that has its schema and no rows."""
    file = Path(environ["APP_DATA_DIR"], "items.db")
    if kind not in migrated:
        assert migrate.main() == 0
        kept = tmp_path_factory.mktemp("migrated")
        migrated[kind] = environ["API_DATABASE__URL"] if kind == "postgresql" else str(shutil.copy(file, kept))
    elif kind == "sqlite":
        file.parent.mkdir()
        shutil.copy(migrated[kind], file)
    if kind == "postgresql":
        environ["API_DATABASE__URL"] = migrated[kind]
        monkeypatch.setenv("API_DATABASE__URL", migrated[kind])
        with psycopg.connect(migrated[kind].replace("+psycopg", ""), autocommit=True) as connection:
            connection.execute("DELETE FROM items")
            connection.execute("DELETE FROM idempotency")
            connection.execute("DELETE FROM reports")
            connection.execute(f"UPDATE alembic_version SET version_num = '{HEAD}'".encode())
    return load(environ)


@pytest.fixture
def make_app() -> Iterator[Callable[[Loaded], Flask]]:
    """The factory, with connections that are closed in the end."""
    with ExitStack() as stack:

        def make(loaded: Loaded) -> Flask:
            app = create_app(loaded)
            stack.callback(database_of(app).close)
            return app

        yield make


@pytest.fixture
def app(loaded: Loaded, make_app: Callable[[Loaded], Flask]) -> Flask:
    return make_app(loaded)


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


def database_of(app: Flask) -> Database:
    """The database that the app's views use."""
    services: Services = app.extensions["api"]
    return services.database


class _Connection(HTTPConnection):
    def __init__(self, address: Path | int, timeout: float) -> None:
        super().__init__("api.example", timeout=timeout)
        self._address = address

    def connect(self) -> None:
        if isinstance(self._address, int):
            self.sock = socket.create_connection(("127.0.0.1", self._address), self.timeout)
        else:
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.settimeout(self.timeout)
            self.sock.connect(str(self._address))


@dataclass
class Server:
    """The app under a real server, and what it writes."""

    process: subprocess.Popen[bytes]
    address: Path | int
    stdout: Path
    stderr: Path
    stats: Path | None = None
    probes: int = 0  # how often it was asked whether it is up, and said yes

    def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: dict[str, str] | None = None,
        timeout: float = 60,
    ) -> tuple[int, dict[str, str], bytes]:
        """Status, headers in lower case and body of one request."""
        connection = _Connection(self.address, timeout)
        try:
            # A request that is refused by its headers is answered before its body was sent.
            with suppress(BrokenPipeError):
                connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            return response.status, {name.lower(): value for name, value in response.getheaders()}, response.read()
        finally:
            connection.close()

    def post(self, path: str, body: object, **headers: str) -> tuple[int, dict[str, str], bytes]:
        """Send JSON."""
        return self.request("POST", path, json.dumps(body).encode(), {"Content-Type": "application/json", **headers})

    def events(self) -> list[dict[str, Any]]:
        """The app's own log lines."""
        lines = self.stderr.read_text().splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def up(self) -> bool:
        """Whether it answers."""
        try:
            self.probes += self.request("GET", "/health/live")[0] == 200
        except (OSError, HTTPException):
            return False
        return self.probes > 0

    def statistics(self) -> Any:
        """What uWSGI says about its workers."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(self.stats))
            return json.loads(b"".join(iter(lambda: connection.recv(65_536), b"")))


UWSGI = (
    "--master",
    "--strict",
    "--need-app",
    "--single-interpreter",
    "--disable-logging",
    "--enable-threads",
    "--buffer-size=32768",
    "--module=api.wsgi:app",
    # What the Emperor does to a vassal that it retires; before the master has come to that, SIGTERM would mean reload.
    "--die-on-term",
    "--hook-master-start=unix_signal:15 gracefully_kill_them_all",
)


@contextmanager
def serve(kind: str, directory: Path, environ: dict[str, str], *options: str) -> Iterator[Server]:
    """The app under `uwsgi` or `flask` (its own server), with `environ` and nothing else of ours in the environment."""
    directory.mkdir()
    stdout, stderr = directory / "stdout", directory / "stderr"
    address: Path | int = directory / "socket"
    stats = directory / "stats"
    if kind == "uwsgi":
        command = [f"{sys.prefix}/bin/uwsgi", *UWSGI, f"--http-socket={address}", f"--stats={stats}", *options]
    else:
        address = free_port()
        command = [sys.executable, "-m", "api", str(address)]
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("APP_", "API_", "PROMETHEUS_"))}
    with stdout.open("wb") as out, stderr.open("wb") as err:
        process = subprocess.Popen(command, stdout=out, stderr=err, cwd=directory, env=clean | environ)
    server = Server(process, address, stdout, stderr, stats if kind == "uwsgi" else None)

    def started() -> bool:
        # The master is behind its workers: a signal before it has opened its statistics is lost.
        return (server.stats is None or server.stats.exists()) and server.up()

    try:
        until(lambda: started() or process.poll() is not None, f"{kind} answers")
        assert process.poll() is None, stderr.read_text()
        yield server
    finally:
        if process.poll() is None:
            process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            raise


def free_port() -> int:
    """A port of the loopback interface that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def make_client(base: dict[str, str], make_app: Callable[[Loaded], Flask]) -> Callable[..., FlaskClient]:
    """A client of the app with more variables in its environment, on SQLite."""

    def make(**more: str) -> FlaskClient:
        return make_app(load(base | more)).test_client()

    return make
