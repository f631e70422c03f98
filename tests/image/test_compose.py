"""The file for Compose, as it is: the image with a database and Prometheus."""

from __future__ import annotations

import json
import secrets
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import Container, stand_in
from engine import SOCKET, docker
from project import ROOT

START_S = 300
Compose = Callable[..., str]


@pytest.fixture
def compose(image: str, tmp_path: Path) -> Iterator[Compose]:  # noqa: ARG001  it is what the file runs
    """Compose, in a directory with the project's files and a password; what it started is removed after the test."""
    for name in ("compose.yml", "prometheus.yml"):
        shutil.copy(ROOT / "container" / name, tmp_path)
    password = secrets.token_hex(24)
    (tmp_path / "database-password").write_text(password)
    stand_in("postgres", "postgres:17")
    stand_in("prometheus", "prom/prometheus:latest")
    place = ("--volume", f"{tmp_path}:{tmp_path}", "--workdir", str(tmp_path))
    started = ("run", "--rm", "--network", "none", "--volume", f"{SOCKET}:/var/run/docker.sock", *place)
    tool = stand_in("compose")

    def run(*words: str) -> str:
        done = docker(*started, tool, "--file", "compose.yml", *words)
        assert password not in done.stdout + done.stderr
        return done.stdout

    yield run
    run("down", "--volumes", "--timeout", "60")


def asked(query: str) -> list[str]:
    """Return the values that Prometheus has for a query."""
    url = f"http://127.0.0.1:9090/api/v1/query?query={query}"
    command = ["curl", "--silent", "--globoff", "--max-time", "10", url]
    text = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    return [each["value"][1] for each in json.loads(text)["data"]["result"]] if text.startswith("{") else []


def eventually(holds: Callable[[], bool], what: str, timeout_s: float = START_S) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.5)


@pytest.mark.long
def test_compose_runs_the_app_with_its_database_and_prometheus(compose: Compose) -> None:
    compose("up", "--detach")
    api, database = Container("flaskapp-api-1"), Container("flaskapp-database-1")
    api.ready(8085, START_S, address="127.0.0.1")
    body = ("--json", '{"name": "nail", "kind": "part"}')
    status, answer = api.get("/items", 8085, *body, address="127.0.0.1")
    assert status == 201, answer
    # It is in PostgreSQL, and not in a file of the container.
    assert database.run(
        "psql", "--username", "api", "--tuples-only", "--command", "SELECT name FROM items"
    ).split() == ["nail"]
    eventually(lambda: asked('up{job="app"}') == ["1"], "Prometheus does not reach the metrics")
    eventually(lambda: asked('praetor_live_up{app="api"}') == ["1"], "Prometheus has no figures of the app")
    # A new container finds what the one before has made.
    compose("up", "--detach", "--force-recreate", "--no-deps", "api")
    made = json.loads(answer)["id"]
    status, answer = api.ready(8085, START_S, address="127.0.0.1").get(f"/items/{made}", 8085, address="127.0.0.1")
    assert (status, json.loads(answer)["name"]) == (200, "nail")
    # Without its database it says so, and with it serves again, without a start.
    compose("stop", "database")
    eventually(
        lambda: api.get("/health/ready", 8085, address="127.0.0.1")[0] == 503, "it is ready without its database"
    )
    compose("start", "database")
    api.ready(8085, START_S, address="127.0.0.1")
    compose("stop")
    assert api.inspect("{{.State.ExitCode}} {{.RestartCount}}") == "0 0"
