"""What a client of the apps sees, and what is written down about it."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import socket
import time
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

if TYPE_CHECKING:
    from testinfra.host import Host

GENERATED = re.compile(r"[0-9a-f]{32}")


class Answer(NamedTuple):
    """An HTTP response that was read to its end."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes


def get(settings: dict[str, Any], app: dict[str, Any], path: str = "", **headers: str) -> Answer:
    """Ask an app as a client does, at the host's address; by default for its health."""
    connection = http.client.HTTPConnection(settings["address"], 80, timeout=10)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    path = path or app.get("health", {}).get("path", "/health/ready")
    with contextlib.closing(connection):
        connection.request("GET", path, headers={"Host": app["server_names"][0], **named})
        response = connection.getresponse()
        return Answer(response.status, response.headers, response.read())


def raw(settings: dict[str, Any], request: bytes) -> bytes:
    """Send bytes and return what comes back until the connection is closed; nothing if it is reset."""
    with socket.create_connection((settings["address"], 80), timeout=10) as connection:
        answer = b""
        try:
            connection.sendall(request)
            while data := connection.recv(65536):
                answer += data
        except ConnectionError:
            pass
        return answer


def logged(host: Host, app: dict[str, Any], request_id: str) -> dict[str, Any]:
    """Return the line of the access log about a request; NGINX writes it within a second."""
    path = f"/var/log/nginx/{app['name']}.access.log"
    for _ in range(20):
        found = host.run("grep -F -e %s %s", request_id, path)
        if found.rc == 0:
            (line,) = found.stdout.splitlines()
            entry: dict[str, Any] = json.loads(line)
            return entry
        time.sleep(0.2)
    pytest.fail(f"no line about {request_id} in {path}")


def test_every_app_is_ready_under_each_of_its_names(settings: dict[str, Any]) -> None:
    for app in settings["apps"]:
        for name in app["server_names"]:
            answer = get(settings, {**app, "server_names": [name]})
            assert answer.status == app.get("health", {}).get("status", 200), f"{app['name']} as {name}"


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\nHost: unknown.invalid\r\n",
        b"GET / HTTP/1.1\r\nHost: 192.0.2.1\r\n",
        b"GET / HTTP/1.0\r\n",
    ],
    ids=["other name", "address", "no name"],
)
def test_who_does_not_know_a_name_gets_no_answer(settings: dict[str, Any], head: bytes) -> None:
    assert raw(settings, head + b"Connection: close\r\n\r\n") == b""


def test_a_request_without_an_id_gets_one_of_its_own(settings: dict[str, Any]) -> None:
    for app in settings["apps"]:
        first, second = (get(settings, app).headers["X-Request-ID"] for _ in range(2))
        assert GENERATED.fullmatch(first)
        assert GENERATED.fullmatch(second)
        assert first != second


def test_a_well_formed_request_id_is_kept(settings: dict[str, Any]) -> None:
    for app in settings["apps"]:
        answer = get(settings, app, X_Request_ID="client-1.2_3")
        assert answer.headers.get_all("X-Request-ID") == ["client-1.2_3"]


@pytest.mark.parametrize("request_id", ["short", "x" * 65, "has space", 'quote"quote', "semi;colon", "newline\\n0000"])
def test_a_malformed_request_id_is_replaced(settings: dict[str, Any], request_id: str) -> None:
    for app in settings["apps"]:
        (given,) = get(settings, app, X_Request_ID=request_id).headers.get_all("X-Request-ID") or [""]
        assert GENERATED.fullmatch(given)


def test_a_request_is_one_line_of_json_in_the_access_log(host: Host, settings: dict[str, Any]) -> None:
    for app in settings["apps"]:
        before = time.time()
        agent = 'a "quoted" \\ agent'
        answer = get(settings, app, "/access-log?query=1", User_Agent=agent)
        entry = logged(host, app, answer.headers["X-Request-ID"])
        assert entry["method"] == "GET"
        assert entry["uri"] == "/access-log?query=1"
        assert entry["status"] == answer.status
        assert entry["user_agent"] == agent
        assert entry["bytes"] > 0
        assert 0 <= entry["request_time_s"] < 10
        assert re.fullmatch(r"\d+\.\d+", entry["upstream_time_s"])
        # The clocks of two machines are compared here; a host that is a minute off has another problem.
        assert abs(entry["ts"] - before) < 60


def test_a_body_beyond_the_limit_never_reaches_the_app(host: Host, settings: dict[str, Any]) -> None:
    for app in settings["apps"]:
        too_much = app.get("limits", {}).get("body_mb", 1) * (1 << 20) + 1
        name = app["server_names"][0].encode()
        head = b"POST / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
        answer = raw(settings, head % (name, too_much))
        head_of_answer, _, body = answer.partition(b"\r\n\r\n")
        assert head_of_answer.startswith(b"HTTP/1.1 413 ")
        assert b"application/problem+json" in head_of_answer
        problem = json.loads(body)
        assert problem["status"] == 413
        assert logged(host, app, problem["request_id"])["upstream_status"] in {"", "-"}


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        (b"X-Big: " + b"x" * 20000 + b"\r\n", b"431"),
        (b"Content-Length: 1\r\nContent-Length: 2\r\n", b"400"),
        (b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n", b"400"),
        (b"Host: other.invalid\r\n", b"400"),
    ],
    ids=["big header", "two lengths", "length and chunks", "two hosts"],
)
def test_an_ambiguous_or_oversized_request_never_reaches_the_app(
    host: Host, settings: dict[str, Any], fields: bytes, status: bytes
) -> None:
    for app in settings["apps"]:
        name = app["server_names"][0].encode()
        answer = raw(settings, b"GET / HTTP/1.1\r\nHost: " + name + b"\r\nConnection: close\r\n" + fields + b"\r\n")
        assert answer.startswith(b"HTTP/1.1 " + status + b" ")
        entry = logged(host, app, json.loads(answer.partition(b"\r\n\r\n")[2])["request_id"])
        assert entry["upstream_status"] in {"", "-"}


def test_no_version_is_disclosed(settings: dict[str, Any]) -> None:
    for app in settings["apps"]:
        for answer in (get(settings, app), get(settings, app, "/%00")):
            assert answer.headers["Server"] == "nginx"
            assert "X-Powered-By" not in answer.headers
            assert b"nginx/" not in answer.body
