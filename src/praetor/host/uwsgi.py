"""Talks to uWSGI over its unix sockets: requests, stats of slots and of the Emperor. Requests in FastCGI, to slots from before FastCGI in uwsgi.

FastCGI: https://fastcgi-archives.github.io/FastCGI_Specification.html
uwsgi: https://uwsgi-docs.readthedocs.io/en/latest/Protocol.html
"""

from __future__ import annotations

import contextlib
import json
import pathlib
import socket
import struct
import time
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from praetor.documents import Note, Stats

STATS_S = 2.0  # a master that is not busy tells at once
ANSWER_MAX = 16 * 2**20  # bytes; stats of hundreds of workers fit, an endless body does not


BEGIN, END, PARAMS, STDIN, STDOUT = 1, 3, 4, 5, 6  # kinds of FastCGI records
_RECORD = struct.Struct(">BBHHBx")  # version, kind, request, bytes of content, bytes of padding


class Answer(NamedTuple):
    """What an app answered: status code, the first bytes of the body, and where it sends clients to, if it does."""

    status: int
    body: str
    location: str = ""


class Counters(NamedTuple):
    """What a slot's stats server reports, added up over its workers."""

    requests: int
    busy: int  # cores that are in a request
    exceptions: int
    ended: int  # requests that outlived their limit
    respawns: int  # worker starts after the first
    workers: int
    loading: tuple[int, ...] = ()  # numbers of the workers that have not loaded the app


def record(kind: int, content: bytes = b"") -> bytes:
    """One record of FastCGI; content is at most 65,535 bytes."""
    return _RECORD.pack(1, kind, 1, len(content), 0) + content


def packet(variables: dict[str, str]) -> bytes:
    """A request without a body."""
    params = b""
    for name, value in variables.items():
        texts = name.encode(), value.encode()
        params += b"".join(struct.pack(">I", len(text) | 1 << 31) for text in texts) + b"".join(texts)
    begin = struct.pack(">HB5x", 1, 0)  # an answer is wanted, and the connection closed after it
    return record(BEGIN, begin) + record(PARAMS, params) + record(PARAMS) + record(STDIN)


def packet_of_uwsgi(variables: dict[str, str]) -> bytes:
    """A request without a body in the uwsgi protocol."""
    texts = [text.encode() for pair in variables.items() for text in pair]
    block = b"".join(struct.pack("<H", len(text)) + text for text in texts)
    return struct.pack("<BHB", 0, len(block), 0) + block


def content(received: bytes) -> tuple[bytes, bool]:
    """What FastCGI records hold of an answer, and whether it has ended."""
    found, place = bytearray(), 0
    while len(received) - place >= _RECORD.size:
        _, kind, _, length, padding = _RECORD.unpack_from(received, place)
        if kind == END:
            return bytes(found), True
        place += _RECORD.size
        if kind == STDOUT:
            found += received[place : place + length]
        place += length + padding
    return bytes(found), False


def get(path: pathlib.Path, uri: str, host: str, timeout_s: float, *, fastcgi: bool = True) -> Answer:
    """GET an URI from the app behind a slot's socket, as NGINX would for a client that came by HTTPS.

    Without `fastcgi` in the uwsgi protocol, which does not say where an answer ends.

    Raises:
        OSError: nobody listens, or no answer within the timeout.
        ValueError: the answer is not HTTP, or is not whole.
    """
    route, _, query = uri.partition("?")
    request = (packet if fastcgi else packet_of_uwsgi)(
        {
            "REQUEST_METHOD": "GET",
            "REQUEST_URI": uri,
            "PATH_INFO": route,
            "SCRIPT_NAME": "",
            "QUERY_STRING": query,
            "SERVER_PROTOCOL": "HTTP/1.1",
            "SERVER_NAME": host,
            "SERVER_PORT": "443",
            "REQUEST_SCHEME": "https",
            "HTTPS": "on",
            "HTTP_HOST": host,
            "HTTP_X_FORWARDED_FOR": "127.0.0.1",
            "HTTP_X_FORWARDED_PROTO": "https",
            "HTTP_X_FORWARDED_HOST": host,
            "HTTP_X_FORWARDED_PORT": "443",
            "HTTP_X_REAL_IP": "127.0.0.1",
            "HTTP_USER_AGENT": "release-gate",
            "HTTP_ACCEPT": "*/*",
            "REMOTE_ADDR": "127.0.0.1",
            "CONTENT_LENGTH": "",
            "CONTENT_TYPE": "",
        }
    )
    received = _exchange(path, request, timeout_s)
    answer, ended = content(received) if fastcgi else (received, True)
    head, _, body = answer.partition(b"\r\n\r\n")
    lines = [line.partition(b":") for line in head.split(b"\r\n")]
    headers = {name.strip().lower(): value.strip() for name, _, value in lines}
    # The first line of an answer in uwsgi is that of HTTP/1.1.
    status = headers.get(b"status", b"").split(b" ")[0] if fastcgi else lines[0][0].partition(b" ")[2][:3]
    if not status.isdigit():
        raise ValueError(
            "closed the connection without an answer" if not received else f"answered no HTTP: {received[:60]!r}"
        )
    if not ended and len(received) < ANSWER_MAX:
        raise ValueError(f"broke its answer {int(status)} off after {len(body)} bytes")
    return Answer(int(status), body[:2000].decode(errors="replace"), headers.get(b"location", b"").decode("latin-1"))


def stats(path: pathlib.Path, timeout_s: float = STATS_S) -> Stats:
    """The JSON of a stats server.

    Raises:
        OSError: nobody listens, or no answer within the timeout.
        ValueError: the answer is not a JSON object.
    """
    found: Stats = json.loads(_exchange(path, b"", timeout_s))
    if not isinstance(found, dict):
        raise ValueError("stats are not a JSON object")  # noqa: TRY004  the caller asks for one kind of error
    return found


def counters(path: pathlib.Path, timeout_s: float = STATS_S) -> Counters:
    """Add up what the workers of a slot count, and the slot's watch. Raises as `stats` does."""
    workers = stats(path, timeout_s).get("workers", [])
    ended = notes(path.with_suffix(".state")).get("watch", {}).get("ended", {})
    return Counters(
        requests=sum(worker["requests"] for worker in workers),
        busy=sum(core["in_request"] for worker in workers for core in worker.get("cores", [])),
        exceptions=sum(worker["exceptions"] for worker in workers),
        ended=sum(worker["harakiri_count"] for worker in workers) + sum(ended.values()),
        respawns=sum(max(worker["respawn_count"] - 1, 0) for worker in workers),
        workers=len(workers),
        loading=tuple(worker["id"] for worker in workers if not worker["accepting"]),
    )


def notes(state: pathlib.Path) -> dict[str, Note]:
    """What a slot's workers (by number) and its watch (`watch`) noted about themselves; those that wrote nothing are missing."""
    found: dict[str, Note] = {}
    for path in state.glob("*.json"):
        # The app can write there too.
        with contextlib.suppress(OSError, ValueError):
            note: Note = json.loads(path.read_text(encoding="utf-8"))
            if isinstance(note, dict):
                found[path.stem] = note
    return found


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
