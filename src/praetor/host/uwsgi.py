"""Speak with uWSGI over its unix sockets: requests in the uwsgi protocol, stats of slots and of the Emperor.

Protocol: https://uwsgi-docs.readthedocs.io/en/latest/Protocol.html
"""

from __future__ import annotations

import json
import pathlib
import socket
import struct
import time
from typing import Any, NamedTuple

ANSWER_MAX = 16 * 2**20  # bytes; stats of hundreds of workers fit, an endless body does not


class Answer(NamedTuple):
    """What an app answered: status code and the first bytes of the body."""

    status: int
    body: str


class Counters(NamedTuple):
    """What a slot's stats server says, added up over its workers."""

    requests: int
    busy: int  # cores that are in a request
    exceptions: int
    harakiri: int
    respawns: int  # worker starts after the first
    workers: int
    pids: tuple[int, ...]


def packet(variables: dict[str, str]) -> bytes:
    """A request of the uwsgi protocol: modifier 0, a 16-bit size, then length-prefixed names and values."""
    body = b""
    for name, value in variables.items():
        for text in (name.encode(), value.encode()):
            body += struct.pack("<H", len(text)) + text
    return struct.pack("<BHB", 0, len(body), 0) + body


def get(path: pathlib.Path, uri: str, host: str, timeout_s: float) -> Answer:
    """GET an URI from the app behind a slot's socket, as NGINX would.

    Raises:
        OSError: nobody listens, or no answer within the timeout.
        ValueError: the answer is not HTTP.
    """
    route, _, query = uri.partition("?")
    request = packet(
        {
            "REQUEST_METHOD": "GET",
            "REQUEST_URI": uri,
            "PATH_INFO": route,
            "QUERY_STRING": query,
            "SERVER_PROTOCOL": "HTTP/1.1",
            "SERVER_NAME": host,
            "SERVER_PORT": "80",
            "HTTP_HOST": host,
            "HTTP_USER_AGENT": "release-gate",
            "HTTP_ACCEPT": "*/*",
            "REMOTE_ADDR": "127.0.0.1",
            "CONTENT_LENGTH": "",
            "CONTENT_TYPE": "",
        }
    )
    answer = _exchange(path, request, timeout_s)
    head, _, body = answer.partition(b"\r\n\r\n")
    words = head.split(b"\r\n", 1)[0].split()
    if len(words) < 2 or not words[0].startswith(b"HTTP/") or not words[1].isdigit():
        raise ValueError(
            "closed the connection without an answer" if not answer else f"answered no HTTP: {answer[:60]!r}"
        )
    return Answer(int(words[1]), body[:2000].decode(errors="replace"))


def stats(path: pathlib.Path, timeout_s: float = 2.0) -> dict[str, Any]:
    """The JSON of a stats server.

    Raises:
        OSError: nobody listens, or no answer within the timeout.
        ValueError: the answer is not a JSON object.
    """
    found = json.loads(_exchange(path, b"", timeout_s))
    if not isinstance(found, dict):
        raise ValueError("stats are not a JSON object")  # noqa: TRY004  the caller asks for one kind of error
    return found


def counters(path: pathlib.Path, timeout_s: float = 2.0) -> Counters:
    """Add up what the workers of a slot count. Raises as `stats` does."""
    workers: list[dict[str, Any]] = stats(path, timeout_s).get("workers", [])
    return Counters(
        requests=sum(worker["requests"] for worker in workers),
        busy=sum(core["in_request"] for worker in workers for core in worker.get("cores", [])),
        exceptions=sum(worker["exceptions"] for worker in workers),
        harakiri=sum(worker["harakiri_count"] for worker in workers),
        respawns=sum(max(worker["respawn_count"] - 1, 0) for worker in workers),
        workers=len(workers),
        pids=tuple(worker["pid"] for worker in workers),
    )


def vassal_state(emperor: pathlib.Path, vassal: str) -> tuple[bool, int]:
    """What the Emperor says of a vassal: whether it accepts requests, and how often its start has failed."""
    found = stats(emperor)
    accepting = any(entry["id"] == vassal and entry["accepting"] for entry in found.get("vassals", []))
    attempts = max(
        (entry.get("attempt", 0) for entry in found.get("blacklist", []) if entry["id"] == vassal), default=0
    )
    return accepting, attempts


def _exchange(path: pathlib.Path, request: bytes, timeout_s: float) -> bytes:
    deadline = time.monotonic() + timeout_s
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        _connect(connection, path, deadline)
        if request:
            connection.settimeout(_left(deadline))
            connection.sendall(request)
        received = bytearray()
        while len(received) < ANSWER_MAX:
            # The whole answer is timed, not each piece: an app that sends a byte a second is not healthy.
            connection.settimeout(_left(deadline))
            chunk = connection.recv(65536)
            if not chunk:
                break
            received += chunk
    return bytes(received)


def _connect(connection: socket.socket, path: pathlib.Path, deadline: float) -> None:
    """Connect; a full backlog is waited for, as it is the opposite of nobody there. Non-blocking unix sockets say EAGAIN, connect(2)."""
    while True:
        connection.settimeout(_left(deadline))
        try:
            connection.connect(str(path))
        except BlockingIOError:
            time.sleep(0.02)
        else:
            return


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError("timed out")
    return left
