"""What holds under uWSGI and Flask's own server alike, seen from outside."""

import json
import sqlite3
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from api import migrate
from conftest import Server, serve, until

TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


@pytest.fixture(params=["uwsgi", "flask"])
def under(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def ready(base: dict[str, str]) -> dict[str, str]:
    """The environment of an app with an SQLite database that has its schema."""
    assert migrate.main() == 0
    return base


@contextmanager
def locked(environ: dict[str, str]) -> Iterator[sqlite3.Connection]:
    """Nobody else can write to the database."""
    file = Path(environ["APP_DATA_DIR"], "items.db")
    with closing(sqlite3.connect(file, isolation_level=None, check_same_thread=False)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield connection


def busy(server: Server) -> bool:
    """Whether a request is being worked on, or after half a second where nobody can say."""
    if server.stats is None:
        time.sleep(0.5)
        return True
    return any(core["in_request"] for worker in server.statistics()["workers"] for core in worker["cores"])


def test_nothing_ever_reaches_stdout_and_all_of_ours_on_stderr_is_json(
    under: str, ready: dict[str, str], tmp_path: Path
) -> None:
    with serve(under, tmp_path / "run", ready | {"API_LOG__LEVEL": "debug"}) as server:
        seen = {
            server.request("GET", path)[0]
            for path in (
                "/health/live",
                "/health/ready",
                "/version",
                "/docs",
                "/openapi.json",
                "/items",
                "/no",
                "/items/x",
            )
        }
        seen.add(server.post("/items", {"name": "a", "kind": "tool"})[0])
        seen.add(server.post("/items", {"name": "a", "kind": "tool"})[0])
        seen.add(server.request("PUT", "/version")[0])
        with closing(sqlite3.connect(Path(ready["APP_DATA_DIR"], "items.db"))) as connection:
            connection.execute("DROP TABLE idempotency")
        seen.add(server.post("/items", {"name": "b", "kind": "tool"}, **{"Idempotency-Key": "1"})[0])
    assert seen == {200, 201, 404, 405, 409, 422, 500}
    assert server.stdout.read_bytes() == b""
    events = server.events()
    assert any(event["level"] == "error" and "exception" in event for event in events)
    assert not any("GET" in str(event) for event in events), "a line for a request is NGINX's business"
    if under == "flask":
        assert len(events) == len(server.stderr.read_text().splitlines())


def test_caller_is_found_in_the_log(under: str, base: dict[str, str], tmp_path: Path) -> None:
    nowhere = {"API_DATABASE__URL": f"postgresql+psycopg://api@/api?host={tmp_path}"}
    with serve(under, tmp_path / "run", base | nowhere) as server:
        status, headers, _ = server.post(
            "/items", {"name": "a", "kind": "tool"}, traceparent=TRACE, **{"X-Request-ID": "caller-0001"}
        )
    assert (status, headers["x-request-id"]) == (503, "caller-0001")
    event = next(event for event in server.events() if event["level"] == "error")
    assert (event["request_id"], event["trace_id"], event["parent_id"]) == ("caller-0001", *TRACE.split("-")[1:3])
    assert (event["app"], event["release"]) == ("api", "1.0.0-test")


def test_long_body_is_refused(under: str, ready: dict[str, str], tmp_path: Path) -> None:
    with serve(under, tmp_path / "run", ready | {"API_HTTP__MAX_BODY_BYTES": "100"}) as server:
        status, _, body = server.post("/items", {"name": "a", "kind": "tool", "note": "x" * 100})
        assert (status, json.loads(body)["title"]) == (413, "Request Entity Too Large")
        assert server.post("/items", {"name": "a", "kind": "tool"})[0] == 201


def test_deadline_ends_a_request(under: str, ready: dict[str, str], tmp_path: Path) -> None:
    with serve(under, tmp_path / "run", ready | {"API_HTTP__DEADLINE_S": "2"}) as server, locked(ready):
        started = time.monotonic()
        status, headers, _ = server.post("/items", {"name": "a", "kind": "tool"})
        assert time.monotonic() - started >= 2
        assert (status, headers["retry-after"]) == (503, "1")
        assert server.request("GET", "/items")[0] == 200


def test_stop_lets_running_requests_end(under: str, ready: dict[str, str], tmp_path: Path) -> None:
    with serve(under, tmp_path / "run", ready) as server, ThreadPoolExecutor(1) as pool:
        with locked(ready) as connection:
            answer = pool.submit(server.post, "/items", {"name": "a", "kind": "tool"})
            until(lambda: busy(server), "the request has arrived")
            server.process.terminate()
            time.sleep(0.5)
            assert server.process.poll() is None
            assert not answer.done()
            connection.execute("ROLLBACK")
        assert answer.result(60)[0] == 201
        assert server.process.wait(60) == 0


def test_refused_configuration_is_one_line_and_no_server(under: str, ready: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(AssertionError), serve(under, tmp_path / "run", ready | {"API_X": "1", "API_DEBUG": "true"}):
        pass
    lines = (tmp_path / "run" / "stderr").read_text().splitlines()
    (event,) = [json.loads(line) for line in lines if line.startswith("{")]
    assert event["level"] == "critical"
    assert event["mistakes"] == [
        "environment API_X: unknown setting",
        "environment API_DEBUG: debug: found True, expected False in the profile 'staging'",
    ]
    assert not any("Traceback" in line for line in lines)
    assert (tmp_path / "run" / "stdout").read_bytes() == b""


def test_debugger_never_answers_outside_of_development(under: str, ready: dict[str, str], tmp_path: Path) -> None:
    with serve(under, tmp_path / "run", ready | {"FLASK_DEBUG": "1", "FLASK_ENV": "development"}) as server:
        Path(ready["APP_DATA_DIR"], "items.db").write_bytes(b"no database" * 1000)
        for path in ("/?__debugger__=yes&cmd=resource&f=debugger.js", "/console"):
            assert server.request("GET", path)[0] == 404
        _, _, body = server.request("GET", "/items")
        assert b"Traceback" not in body


def test_threads_of_one_worker_do_not_mix_up_their_requests(under: str, ready: dict[str, str], tmp_path: Path) -> None:
    options = ("--threads=4",) if under == "uwsgi" else ()
    with serve(under, tmp_path / "run", ready, *options) as server, ThreadPoolExecutor(8) as pool:
        together = threading.Barrier(8)

        def ask(number: int) -> bool:
            together.wait()
            ids = [f"request-{number}-{turn}" for turn in range(20)]
            return all(
                server.request("GET", "/version", headers={"X-Request-ID": i})[1]["x-request-id"] == i for i in ids
            )

        assert all(pool.map(ask, range(8)))
