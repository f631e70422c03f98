"""Metrics of many workers, in files, under uWSGI."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.multiprocess import MultiProcessCollector

from api import migrate
from conftest import Server, serve, until

LIVE = {"method": "GET", "route": "/health/live", "status": "200"}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    made = tmp_path / "metrics"
    made.mkdir()
    return made


@pytest.fixture
def environ(base: dict[str, str], directory: Path) -> dict[str, str]:
    assert migrate.main() == 0
    return base | {"PROMETHEUS_MULTIPROC_DIR": str(directory)}


def count(directory: Path, name: str = "api_http_request_duration_seconds_count", **labels: str) -> float:
    registry = CollectorRegistry()
    MultiProcessCollector(registry, str(directory))  # type: ignore[no-untyped-call]
    return registry.get_sample_value(name, labels or LIVE) or 0


def ask(server: Server) -> bool:
    return server.request("GET", "/health/live")[0] == 200


RECYCLE = """
import os, sys, types

from api import metrics

uwsgi = types.ModuleType("uwsgi")
uwsgi.worker_id = lambda: 0
sys.modules["uwsgi"] = uwsgi
for turn in range(200):
    if os.fork() == 0:
        uwsgi.worker_id = lambda: turn % 4 + 1
        metrics.observe("GET", "/health/live", "200", 0.1)
        os._exit(0)
    os.wait()
    if turn % 20 == 19:
        print(sum(
            sample.value
            for family in metrics.all_workers().collect()
            for sample in family.samples
            if sample.name.endswith("_count")
        ))
"""


def test_200_recycled_workers_leave_no_file_and_lose_no_count(environ: dict[str, str], directory: Path) -> None:
    # uWSGI itself starts a worker a second at most; what counts for the files is that a new process has an old id.
    done = subprocess.run([sys.executable, "-c", RECYCLE], env=environ, capture_output=True, text=True, check=True)
    assert [float(line) for line in done.stdout.split()] == [20.0 * turn for turn in range(1, 11)]
    assert {path.name for path in directory.iterdir()} == {f"histogram_w{worker}.db" for worker in range(1, 5)}


def test_killed_worker_goes_on_counting_in_its_file(environ: dict[str, str], directory: Path, tmp_path: Path) -> None:
    with serve("uwsgi", tmp_path / "run", environ, "--processes=2") as server:
        before, files = 0.0, set[str]()
        for turn in range(3):
            for _ in range(10):
                assert ask(server)
            now = count(directory)
            assert now >= before + 10, "a counter went backwards"
            before = now
            files |= {path.name for path in directory.iterdir()}
            old = {worker["pid"] for worker in server.statistics()["workers"]}
            for pid in old:
                os.kill(pid, signal.SIGKILL)
            until(lambda old=old: not old & pids(server), f"other workers, turn {turn}")  # type: ignore[misc]
        assert ask(server)
        assert count(directory) == 31 + server.probes
    assert files == {"gauge_max_w0.db", "gauge_max_w1.db", "gauge_max_w2.db", "histogram_w1.db", "histogram_w2.db"}


def pids(server: Server) -> set[int]:
    return {worker["pid"] for worker in server.statistics()["workers"]}


def test_no_metrics_on_the_public_socket_when_they_are_in_files(
    environ: dict[str, str], directory: Path, tmp_path: Path
) -> None:
    with serve("uwsgi", tmp_path / "run", environ) as server:
        assert server.request("GET", "/metrics")[0] == 404
        status, _, body = server.request("GET", "/version")
    assert status == 200
    assert json.loads(body)["uwsgi"].startswith("2.")
    labels = {"version": "1.0.0", "release": "1.0.0-test", "commit": "unknown", "profile": "staging"}
    labels["python"] = json.loads(body)["python"]
    assert count(directory, "api_build_info", **labels) == 1


def test_developer_sees_all_workers(environ: dict[str, str], tmp_path: Path) -> None:
    with serve("uwsgi", tmp_path / "run", environ | {"APP_PROFILE": "dev"}, "--processes=2") as server:
        for _ in range(6):
            assert ask(server)
        _, _, body = server.request("GET", "/metrics")
    line = next(line for line in body.decode().splitlines() if "_count" in line and "/health/live" in line)
    assert float(line.split()[-1]) == 6 + server.probes
