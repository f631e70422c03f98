"""How a slot is spoken to, and how its silence is told from its work."""

import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes import FakeEmperor, FakeSlot, Server, answer, framed, variables_of, vassal_of
from project import ROOT

from praetor.host import uwsgi
from praetor.host.gate import wait_until
from praetor.host.layout import AppHost, Emperor, Slot

SLOT = Slot("api", "1-a", 1)


def test_a_request_arrives_as_nginx_would_send_it(host: AppHost) -> None:
    slot = FakeSlot(host, SLOT, lambda _: answer(200, "fine"))
    found = uwsgi.get(host.socket(SLOT), "/health/ready?full=1", "api.example.org", 60)
    slot.close()
    assert found == uwsgi.Answer(200, "fine")
    [asked] = slot.asked
    assert asked["REQUEST_METHOD"] == "GET"
    assert asked["PATH_INFO"] == "/health/ready"
    assert asked["QUERY_STRING"] == "full=1"
    assert asked["REQUEST_URI"] == "/health/ready?full=1"
    assert asked["HTTP_HOST"] == "api.example.org"


def test_a_slot_of_an_earlier_version_is_asked_in_the_uwsgi_protocol(place: Path) -> None:
    asked: list[bytes] = []

    def respond(connection: socket.socket) -> None:
        asked.append(connection.recv(65536))
        connection.sendall(b"HTTP/1.1 302 Found\r\nLocation: /login\r\n\r\n")

    server = Server(place / "old.sock", respond)
    found = uwsgi.get(place / "old.sock", "/?a=1", "api.example.org", 60, fastcgi=False)
    server.close()
    assert (found.status, found.location) == (302, "/login")
    [sent] = asked
    assert sent[0] == 0
    assert int.from_bytes(sent[1:3], "little") == len(sent) - 4
    assert b"\x0c\x00QUERY_STRING\x03\x00a=1" in sent


@pytest.mark.parametrize(
    ("sent", "words"),
    [(None, "closed the connection without an answer"), (b"hello", "answered no HTTP"), (b"Status: x\r\n", "no HTTP")],
)
def test_what_is_no_http_is_an_error(host: AppHost, sent: bytes | None, words: str) -> None:
    slot = FakeSlot(host, SLOT, lambda _: sent)
    with pytest.raises(ValueError, match=words):
        uwsgi.get(host.socket(SLOT), "/", "x", 60)
    slot.close()


def test_the_gate_asks_as_nginx_does_for_a_client_that_came_by_https(host: AppHost) -> None:
    slot = FakeSlot(host, SLOT, lambda _: b"Status: 302 Found\r\nLocation: https://login.example.org/\r\n\r\n")
    found = uwsgi.get(host.socket(SLOT), "/", "api.example.org", 60)
    slot.close()
    assert (found.status, found.location) == (302, "https://login.example.org/")
    [asked] = slot.asked
    template = (ROOT / "roles/nginx/templates/nginx.conf.j2").read_text(encoding="utf-8")
    named = set(re.findall(r"_param ([A-Z_]+) \$", template))
    assert named - set(asked) == {"HTTP_X_REQUEST_ID", "PRAETOR_REQUEST_S", "REMOTE_PORT", "SSL_CLIENT_S_DN"}
    assert (asked["HTTPS"], asked["REQUEST_SCHEME"], asked["HTTP_X_FORWARDED_PROTO"]) == ("on", "https", "https")


def test_an_answer_that_breaks_off_is_an_error(place: Path) -> None:
    def break_off(connection: socket.socket) -> None:
        variables_of(connection)
        connection.sendall(uwsgi.record(uwsgi.STDOUT, answer(200, "half")))

    server = Server(place / "s", break_off)
    with pytest.raises(ValueError, match="broke its answer 200 off after 4 bytes"):
        uwsgi.get(place / "s", "/", "x", 60)
    server.close()


def test_an_app_that_sends_a_byte_now_and_then_is_timed_as_a_whole(place: Path) -> None:
    def drip(connection: socket.socket) -> None:
        variables_of(connection)
        for byte in framed(answer(200, "x" * 100)):
            connection.sendall(bytes([byte]))
            time.sleep(0.05)

    # Timed piece by piece it would be whole after some seconds.
    server = Server(place / "s", drip)
    with pytest.raises(TimeoutError):
        uwsgi.get(place / "s", "/", "x", 0.3)
    server.close()


def test_an_endless_body_ends(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uwsgi, "ANSWER_MAX", 100_000)

    def pour(connection: socket.socket) -> None:
        variables_of(connection)
        connection.sendall(uwsgi.record(uwsgi.STDOUT, answer(200)))
        while True:
            connection.sendall(uwsgi.record(uwsgi.STDOUT, b"x" * 65535))

    server = Server(place / "s", pour)
    assert len(uwsgi.get(place / "s", "/", "x", 60).body) == 2000
    server.close()


@pytest.fixture
def full(place: Path) -> Iterator[socket.socket]:
    """Return a listener whose backlog is full."""
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener,
        socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as queued,
    ):
        listener.bind(str(place / "s"))
        listener.listen(0)
        queued.connect(str(place / "s"))
        yield listener


def test_a_full_backlog_is_waited_for(place: Path, full: socket.socket) -> None:
    def serve() -> None:
        time.sleep(0.2)
        full.accept()[0].close()
        with full.accept()[0] as connection:
            variables_of(connection)
            connection.sendall(framed(answer(204)))

    thread = threading.Thread(target=serve)
    thread.start()
    assert uwsgi.get(place / "s", "/", "x", 60).status == 204
    thread.join()


@pytest.mark.usefixtures("full")
def test_a_full_backlog_is_not_taken_for_nobody(place: Path) -> None:
    with pytest.raises(TimeoutError):
        uwsgi.get(place / "s", "/", "x", 0.2)


def test_nobody_there_is_an_error_of_its_own(place: Path) -> None:
    with pytest.raises(FileNotFoundError):
        uwsgi.stats(place / "none")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as dead:
        dead.bind(str(place / "dead"))
    with pytest.raises(ConnectionRefusedError):
        uwsgi.stats(place / "dead")


def test_counters_are_added_up_over_workers_and_cores(place: Path) -> None:
    cores = [{"id": 0, "in_request": 1}, {"id": 1, "in_request": 0}]
    worker = {
        "id": 1,
        "accepting": 1,
        "pid": 5,
        "requests": 3,
        "exceptions": 1,
        "harakiri_count": 2,
        "respawn_count": 1,
        "cores": cores,
    }
    document = {
        "workers": [
            worker,
            {**worker, "pid": 6, "respawn_count": 4},
            {**worker, "pid": 0, "respawn_count": 0, "id": 3, "accepting": 0},
        ]
    }
    server = Server(place / "s.1.stats", lambda connection: connection.sendall(json.dumps(document).encode()))
    (place / "s.1.state").mkdir()
    (place / "s.1.state/watch.json").write_text('{"pid": 7, "ended": {"1": 3, "2": 1}}', encoding="utf-8")
    (place / "s.1.state/1.json").write_text("half a no", encoding="utf-8")
    found = uwsgi.counters(place / "s.1.stats")
    server.close()
    assert found == uwsgi.Counters(9, 3, 3, 6 + 4, 3, 3, loading=(3,))


@pytest.mark.parametrize("sent", [b"[1]", b"{", b""])
def test_stats_that_are_no_object_are_refused(place: Path, sent: bytes) -> None:
    server = Server(place / "s", lambda connection: connection.sendall(sent))
    with pytest.raises(ValueError, match=r".+"):
        uwsgi.stats(place / "s")
    server.close()


def test_the_emperor_tells_what_accepts_and_what_failed(host: AppHost) -> None:
    emperor = FakeEmperor(host.layout, lambda slot: 200 if slot.number == 1 else None)
    for count in (1, 2):
        vassal_of(Slot("api", "1-a", count), host).touch()
    assert wait_until(lambda: len(emperor.started) == 2, 60)
    path = host.emperor_stats(Emperor("api", 1))
    assert uwsgi.vassal_state(path, "api.1-a.1.ini") == (True, 0)
    assert uwsgi.vassal_state(path, "api.1-a.2.ini") == (False, 1)
    assert uwsgi.vassal_state(path, "api.1-a.3.ini") == (False, 0)
    emperor.close()
