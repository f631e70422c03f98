"""Stopping: what was accepted is answered, and what dies unasked takes the container with it, with a reason."""

from __future__ import annotations

import collections
import json
import signal
import socket
import threading
import time
import uuid
from collections.abc import Callable

import pytest
from conftest import Container, Start
from engine import docker

CLIENTS = 24
SLOW_S = 3.0


def ask(address: str, request: bytes, pause_s: float = 0, port: int = 80) -> int:
    """Send a request on a separate connection, its last byte after a pause, and return the answer's status; 0 for none."""
    try:
        with socket.create_connection((address, port), timeout=120) as connection:
            connection.sendall(request[:-1])
            time.sleep(pause_s)
            connection.sendall(request[-1:])
            answer = b""
            while piece := connection.recv(65536):
                answer += piece
    except OSError:
        return 0
    return int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/1.1 ") else 0


def get() -> bytes:
    """A request without a body."""
    return b"GET /version HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


def post() -> bytes:
    """A request that makes something."""
    body = json.dumps({"name": f"item-{uuid.uuid4().hex}", "kind": "part"}).encode()
    head = "POST /items HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


class Load:
    """Clients that ask one request after the other until they are told to end."""

    def __init__(
        self,
        address: str,
        clients: int,
        request: Callable[[], bytes] = get,
        *,
        port: int = 80,
        pause_s: float = 0,
        rest_s: float = 0.005,
    ) -> None:
        """Begin. Each client pauses before the last byte of a request, and rests after an answer."""
        self._port, self._pause_s, self._rest_s = port, pause_s, rest_s
        self.statuses: collections.Counter[int] = collections.Counter()
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(address, request)) for _ in range(clients)]
        for thread in self._threads:
            thread.start()

    def _ask(self, address: str, request: Callable[[], bytes]) -> None:
        while not self._over.wait(self._rest_s):
            self.statuses[ask(address, request(), self._pause_s, self._port)] += 1

    def end(self) -> collections.Counter[int]:
        """End, and return how often each status came."""
        self._over.set()
        for thread in self._threads:
            thread.join()
        return self.statuses


def test_a_stop_under_load_answers_all_that_was_accepted(start: Start) -> None:
    container = start().ready()
    load = Load(container.address, CLIENTS - 4)
    slow: list[int] = []
    address = container.address
    posts = [threading.Thread(target=lambda: slow.append(ask(address, post(), SLOW_S))) for _ in range(4)]
    for thread in posts:
        thread.start()
    time.sleep(1)  # NGINX has accepted them by now
    docker("stop", "--time", "60", container.name)
    load.end()
    for thread in posts:
        thread.join()
    assert slow == [201] * 4
    assert container.inspect("{{.State.ExitCode}}") == "0"
    logged = collections.Counter(line["status"] for line in container.said() if "upstream_status" in line)
    assert logged.keys() <= {200, 201}, logged
    assert logged[200] >= CLIENTS - 4, "there was no load"


def test_it_goes_on_serving_until_the_balancer_has_noticed(start: Start) -> None:
    container = start(options=("--env", "DRAIN_S=20")).ready()
    docker("kill", "--signal", "TERM", container.name)
    until, served = time.monotonic() + 2, 0
    while time.monotonic() < until:
        assert ask(container.address, get()) == 200
        served += 1
    assert served > 0  # how many depends on the machine
    assert container.ended()[0] == 0


def pid_of(container: Container, word: str, parent: str = "1") -> str:
    """The number of a process inside that has a word in its command line, among the children of another."""
    program = (
        "import pathlib, sys\n"
        "for place in pathlib.Path('/proc').glob('[0-9]*'):\n"
        "    words, parent = (place / 'cmdline').read_bytes().lower(), (place / 'stat').read_text().rpartition(')')[2].split()[1]\n"
        "    if sys.argv[1].encode() in words and parent == sys.argv[2]: print(place.name); break\n"
    )
    return container.run("python3", "-c", program, word, parent).strip()


@pytest.mark.parametrize("name", ["nginx", "uwsgi"])
def test_the_end_of_a_program_ends_the_container_with_the_reason(start: Start, name: str) -> None:
    container = start().ready()
    container.run("python3", "-c", f"import os; os.kill({pid_of(container, name)}, {signal.SIGKILL})")
    status, last = container.ended()
    assert (status, last) == (1, f"{name} ended unasked, killed by SIGKILL: so does the container")


@pytest.mark.parametrize("name", ["nginx", "uwsgi"])
def test_a_worker_that_dies_is_replaced(start: Start, name: str) -> None:
    container = start(options=("--env", "WORKERS=1")).ready()
    master = pid_of(container, name)
    before = pid_of(container, name, master)
    container.run("python3", "-c", f"import os; os.kill({before}, {signal.SIGKILL})")
    deadline = time.monotonic() + 300
    while pid_of(container, name, master) in {"", before} or container.get("/health/ready")[0] != 200:
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_the_exporter_is_started_again_and_costs_no_request(start: Start) -> None:
    container = start().ready()
    exporter = "app_exporter"
    deadline = time.monotonic() + 300
    while container.get("/metrics", 9117)[0] != 200:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    before = pid_of(container, exporter)
    load = Load(container.address, 4)
    container.run("python3", "-c", f"import os; os.kill({before}, {signal.SIGKILL})")
    deadline = time.monotonic() + 300
    while container.get("/metrics", 9117)[0] != 200 or pid_of(container, exporter) in {"", before}:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    assert load.end().keys() == {200}
    _, text = container.get("/metrics", 9117)
    assert 'praetor_live_up{app="api"} 1' in text
    assert container.get("/metrics")[0] == 404  # clients see none


def test_a_container_that_is_killed_comes_back_with_its_data(start: Start) -> None:
    container = start().ready()
    made = json.loads(container.get("/items", 80, "--json", '{"name": "nail", "kind": "part"}')[1])
    docker("kill", "--signal", "KILL", container.name)
    assert container.ended()[0] == 128 + signal.SIGKILL
    docker("start", container.name)
    status, body = container.ready().get(f"/items/{made['id']}")
    assert (status, json.loads(body)["name"]) == (200, "nail")


def test_a_stop_while_the_app_still_loads_is_quick(start: Start) -> None:
    container = start()
    deadline = time.monotonic() + 300
    while not any("Starting uWSGI" in message for message in container.messages()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    docker("stop", "--time", "60", container.name)
    assert container.inspect("{{.State.ExitCode}}") == "0"
