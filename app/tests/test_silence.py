"""A database that says nothing more: every request has its end all the same, and all is well when it speaks again."""

import json
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from statistics import median
from typing import Any

import psycopg
import pytest
from sqlalchemy import event, text

from api import context
from api.config import Loaded, load
from api.database import Database, UnavailableError
from conftest import Postgres, Server, serve, until

pytestmark = pytest.mark.postgresql

DEADLINE_S = 3
READY_S = 1.0
SLACK_S = 1.5  # for two processors that are as busy as those of tests


class Line:
    """A TCP proxy before PostgreSQL's socket, as a network that may fall silent: nothing passes, nothing is closed."""

    def __init__(self, target: Path) -> None:
        self._target = target
        self._open = threading.Event()
        self._open.set()
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port = int(self._listener.getsockname()[1])
        self._sockets: list[socket.socket] = [self._listener]
        self._start(self._accept)

    def silence(self) -> None:
        self._open.clear()

    def speak(self) -> None:
        self._open.set()

    def close(self) -> None:
        self.speak()
        for each in self._sockets:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _start(self, target: Callable[..., None], *arguments: object) -> None:
        threading.Thread(target=target, args=arguments, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                self._start(self._join, near)

    def _join(self, near: socket.socket) -> None:
        far = socket.socket(socket.AF_UNIX)
        self._sockets += [near, far]
        with suppress(OSError):
            self._open.wait()
            far.connect(str(self._target))
            self._start(self._pass_on, far, near)
            self._pass_on(near, far)

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65_536):
                self._open.wait()
                sink.sendall(data)
            sink.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def line(postgres: Postgres) -> Iterator[Line]:
    with closing(Line(postgres.directory / ".s.PGSQL.5432")) as found:
        yield found


@pytest.fixture
def kind() -> str:
    return "postgresql"


@pytest.fixture
def over(loaded: Loaded, environ: dict[str, str], line: Line) -> dict[str, str]:
    """The environment of an app whose migrated database lies at the other end of the line."""
    name = re.search(r"test\d+", environ["API_DATABASE__URL"])
    assert name
    return environ | {
        "API_DATABASE__URL": f"postgresql+psycopg://api@127.0.0.1:{line.port}/{name[0]}",
        "API_DATABASE__CONNECT_TIMEOUT_S": "2",
        "API_DATABASE__READY_TIMEOUT_S": str(READY_S),
        "API_HTTP__DEADLINE_S": str(DEADLINE_S),
    }


@pytest.fixture
def server(over: dict[str, str], tmp_path: Path) -> Iterator[Server]:
    """Two workers with two threads each, as on a host; a worker that is still busy after half a minute is killed."""
    options = ("--processes=2", "--threads=2", "--harakiri=30", "--harakiri-verbose")
    with serve("uwsgi", tmp_path / "run", over, *options) as found:
        for _ in range(12):  # all four threads have connections
            assert found.request("GET", "/items")[0] == 200
        yield found


@pytest.fixture
def slack_s(server: Server) -> float:
    """By how much more than its limit something may take, on a machine with as much to do as this one has now."""
    return SLACK_S + 5 * max(timed(server, "GET", path)[1] for path in ("/items", "/health/ready") * 10)


def timed(server: Server, method: str, path: str) -> tuple[int, float]:
    started = time.monotonic()
    if method == "POST":
        status, _, _ = server.post(path, {"name": f"n{time.monotonic_ns()}", "kind": "tool"})
    else:
        status, _, _ = server.request(method, path)
    return status, time.monotonic() - started


def backends(postgres: Postgres) -> list[int]:
    """The processes that serve connections of ours; those without a client are not among them."""
    children = Path(f"/proc/{postgres.process.pid}/task/{postgres.process.pid}/children").read_text().split()
    titles = {int(pid): Path(f"/proc/{pid}/cmdline").read_text() for pid in children}
    return [pid for pid, title in titles.items() if re.search(r"postgres: api test\d+ ", title)]


@contextmanager
def frozen(postgres: Postgres) -> Iterator[None]:
    stopped = backends(postgres)
    assert stopped
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in stopped:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def workers(server: Server) -> list[tuple[int, int]]:
    return [(worker["pid"], worker["harakiri_count"]) for worker in server.statistics()["workers"]]


def test_silent_line_ends_no_request_late_and_kills_no_worker(server: Server, line: Line, slack_s: float) -> None:
    before = workers(server)
    with ThreadPoolExecutor(4) as pool:
        line.silence()
        first = list(pool.map(lambda method: timed(server, method, "/items"), ["GET", "POST", "GET", "POST"]))
        assert {status for status, _ in first} == {503}
        assert max(seconds for _, seconds in first) < DEADLINE_S + slack_s
        # Each worker has learnt it by now: nobody waits for the same silence again.
        until(lambda: all(timed(server, "GET", "/items")[1] < DEADLINE_S / 3 for _ in range(8)), "all workers know")
        later = [timed(server, method, "/items") for method in ("GET", "POST") * 10]
        assert {status for status, _ in later} == {503}
        assert max(seconds for _, seconds in later) < slack_s
        ready = [timed(server, "GET", "/health/ready") for _ in range(10)]
        assert {status for status, _ in ready} == {503}
        assert median(seconds for _, seconds in ready) < READY_S / 2, "they wait for the same silence again"
        assert timed(server, "GET", "/version")[0] == 200
    line.speak()
    until(lambda: all(timed(server, "POST", "/items")[0] == 201 for _ in range(8)), "it serves again")
    until(lambda: all(timed(server, "GET", "/health/ready")[0] == 200 for _ in range(8)), "it is ready again")
    assert workers(server) == before


def test_silence_in_the_middle_of_requests_ends_them_by_the_deadline(
    server: Server, line: Line, slack_s: float
) -> None:
    before = workers(server)
    over = threading.Event()

    def ask(method: str) -> list[tuple[int, float]]:
        found = []
        while not over.is_set():
            found.append(timed(server, method, "/items"))
        return found

    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(ask, method) for method in ("GET", "POST", "GET", "POST")]
        time.sleep(1)
        line.silence()
        time.sleep(DEADLINE_S + 2)
        line.speak()
        time.sleep(3)
        over.set()
        answers = [answer for future in asked for answer in future.result(60)]
    assert max(seconds for _, seconds in answers) < DEADLINE_S + slack_s
    assert {status for status, _ in answers} == {200, 201, 503}
    assert workers(server) == before
    assert timed(server, "POST", "/items")[0] == 201


def test_readiness_keeps_its_time_from_the_first_moment_of_silence(server: Server, line: Line, slack_s: float) -> None:
    line.silence()
    with ThreadPoolExecutor(4) as pool:
        ready = list(pool.map(lambda _: timed(server, "GET", "/health/ready"), range(24)))
    assert {status for status, _ in ready} == {503}
    assert max(seconds for _, seconds in ready) < READY_S + slack_s


def test_frozen_backends_end_no_request_late_and_new_ones_serve(
    server: Server, postgres: Postgres, slack_s: float
) -> None:
    before = workers(server)
    with frozen(postgres), ThreadPoolExecutor(4) as pool:
        first = list(pool.map(lambda method: timed(server, method, "/items"), ["GET", "POST", "GET", "POST"]))
        assert max(seconds for _, seconds in first) < DEADLINE_S + slack_s
        # Only these backends are frozen: connections that are made now are answered.
        until(lambda: all(timed(server, "POST", "/items")[0] == 201 for _ in range(8)), "new ones serve")
        until(lambda: timed(server, "GET", "/health/ready")[0] == 200, "it is ready")
    assert timed(server, "GET", "/items")[0] == 200
    assert workers(server) == before


def test_server_that_is_frozen_as_a_whole_is_as_one_that_is_silent(
    server: Server, postgres: Postgres, slack_s: float
) -> None:
    before = workers(server)
    with ExitStack() as stack, ThreadPoolExecutor(4) as pool:
        stack.enter_context(frozen(postgres))
        postgres.process.send_signal(signal.SIGSTOP)
        stack.callback(postgres.process.send_signal, signal.SIGCONT)
        first = list(pool.map(lambda method: timed(server, method, "/items"), ["GET", "POST", "GET", "POST"]))
        assert {status for status, _ in first} == {503}
        assert max(seconds for _, seconds in first) < DEADLINE_S + slack_s
        status, seconds = timed(server, "GET", "/health/ready")
        assert status == 503
        assert seconds < READY_S + slack_s
    until(lambda: all(timed(server, "POST", "/items")[0] == 201 for _ in range(8)), "it serves again")
    assert workers(server) == before


def test_name_that_is_not_looked_up_ends_with_the_deadline(
    over: dict[str, str], make_database: Callable[[dict[str, str]], Database], monkeypatch: pytest.MonkeyPatch
) -> None:
    released = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [] if released.wait(60) else ["never"])
    url = over["API_DATABASE__URL"].replace("127.0.0.1", "db.example.org")
    database = make_database(over | {"API_DATABASE__URL": url, "API_HTTP__DEADLINE_S": "1.5"})
    started = time.monotonic()
    with pytest.raises(UnavailableError), database.read() as session:
        session.execute(text("SELECT 1"))
    assert time.monotonic() - started < 30, "it waited for the name"
    released.set()


def test_backend_that_freezes_right_after_its_start_is_no_connection(
    over: dict[str, str], make_database: Callable[[dict[str, str]], Database]
) -> None:
    database = make_database(over | {"API_HTTP__DEADLINE_S": "60"})
    stopped: list[int] = []

    def freeze(connection: psycopg.Connection[Any], _: object) -> None:
        if not stopped:
            stopped.append(connection.info.backend_pid)
            os.kill(stopped[0], signal.SIGSTOP)

    event.listen(database._own().reader, "connect", freeze)
    started = time.monotonic()
    try:
        with pytest.raises(UnavailableError), database.read() as session:
            session.execute(text("SELECT 1"))
        assert time.monotonic() - started < 30  # the time for a connection, not that of a request
        until(lambda: database.unready() is None, "the next one is well")
    finally:
        os.kill(stopped[0], signal.SIGCONT)
    with database.read() as session:
        assert session.execute(text("SELECT 1")).scalar() == 1


def test_transaction_of_many_statements_ends_with_the_deadline(
    over: dict[str, str], make_database: Callable[[dict[str, str]], Database]
) -> None:
    database = make_database(over | {"API_HTTP__DEADLINE_S": "2"})
    started = time.monotonic()

    def work() -> None:
        with database.read() as session:
            for _ in range(60):
                session.execute(text("SELECT pg_sleep(0.8)"))  # each of them within the limit of a statement

    with pytest.raises(context.DeadlineExceededError):
        work()
    assert time.monotonic() - started < 24, "half of the statements"
    with database.read() as session:
        assert session.execute(text("SELECT 1")).scalar() == 1


@pytest.fixture
def make_database() -> Iterator[Callable[[dict[str, str]], Database]]:
    with ExitStack() as stack:

        def make(environ: dict[str, str]) -> Database:
            loaded = load(environ)
            settings = loaded.settings
            found = Database(settings.database, loaded.identity.data_dir, settings.http.deadline_s)
            stack.callback(found.close)
            return found

        yield make


def test_log_says_once_that_it_is_not_ready_and_once_that_it_is_again(server: Server, line: Line) -> None:
    line.silence()
    for _ in range(20):
        timed(server, "GET", "/health/ready")
        time.sleep(0.2)
    line.speak()
    until(lambda: all(timed(server, "GET", "/health/ready")[0] == 200 for _ in range(8)), "it is ready again")
    said = [json.dumps(found) for found in server.events() if found["message"].startswith("database ")]
    assert 1 <= sum("not ready" in each for each in said) <= 2, said  # one for each worker that was asked
    assert 1 <= sum("ready again" in each for each in said) <= 2, said
