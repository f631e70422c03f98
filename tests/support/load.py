"""Constant load on some hosts: every answer, and every request that got none, becomes a line of CSV on stdout.

    python load.py hosts sample.lab.example authority.pem app1=198.18.0.11 app2=198.18.0.12

The first argument says which clients ask: those of LANES. Over TLS. HTTP/1.1 by plain threads with the standard library's client: it repeats
nothing by itself, so what a client would see is what is recorded. HTTP/2 by curl.
"""

from __future__ import annotations

import csv
import http.client
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from client import Site

TIMEOUT_S = 15.0
PAUSE_S = 0.1  # after a failure
HELD_S = 1.5  # how long the sample takes for a request to /hold
READ_S = 4.0  # how long a slow client takes to read the answer of /large
LARGE = bytes(range(256)) * 32768  # what the sample answers there: more than the buffers on the way can hold


@dataclass(frozen=True)
class Lane:
    """One client that asks the same thing again and again."""

    kind: str
    every_s: float  # 0: as soon as the last answer is there
    keep_alive: bool
    method: str
    path: str
    chunked: bool = False  # a body whose length is not said before
    slow: bool = False  # an answer that is read slowly
    http2: bool = False


_BASIC = (
    Lane("get", 0.1, keep_alive=True, method="GET", path="/"),
    Lane("get-new", 0.2, keep_alive=False, method="GET", path="/"),
    Lane("post", 0.15, keep_alive=True, method="POST", path="/echo"),
    Lane("post-new", 0.3, keep_alive=False, method="POST", path="/echo"),
    Lane("post-chunked", 0.3, keep_alive=True, method="POST", path="/echo/file", chunked=True),
    Lane("hold", 0, keep_alive=True, method="GET", path="/hold"),
)
LANES = {
    "hosts": _BASIC,
    # Twice as slow, for the machine also runs the balancers.
    "address": (
        *(replace(lane, every_s=lane.every_s * 2) for lane in _BASIC),
        Lane("download", 0, keep_alive=False, method="GET", path="/large", slow=True),
        Lane("get-h2", 0.25, keep_alive=True, method="GET", path="/", http2=True),
        Lane("post-h2", 0.5, keep_alive=True, method="POST", path="/echo", http2=True),
        Lane("hold-h2", 2, keep_alive=True, method="GET", path="/hold", http2=True),
    ),
}


@dataclass(frozen=True)
class Record:
    """One request: when it was due and when it ended (seconds since the epoch), and what was wrong with it, if anything."""

    kind: str
    host: str
    due: float
    ended: float
    status: int  # 0: no answer
    said: str  # the answer's X-Sample: release and greeting
    wrong: str  # empty: it is as it must be

    @classmethod
    def read(cls, text: str) -> list[Record]:
        """Read lines of CSV."""
        return [
            cls(kind, host, float(due), float(ended), int(status), said, wrong)
            for kind, host, due, ended, status, said, wrong in csv.reader(text.splitlines())
        ]

    @property
    def latency_s(self) -> float:
        """From when the request was due; without what the sample takes on purpose. A stall counts for all that waited."""
        on_purpose = {"hold": HELD_S, "hold-h2": HELD_S, "download": READ_S}
        return self.ended - self.due - on_purpose.get(self.kind, 0)


def ask(connection: http.client.HTTPConnection, lane: Lane, site: str) -> tuple[int, str, str]:
    """Send one request; returns status, X-Sample and what is wrong."""
    body = os.urandom(1024).hex().encode() if lane.method == "POST" else None
    headers = {"Host": site} if lane.keep_alive else {"Host": site, "Connection": "close"}
    # The client sends what it cannot measure in chunks.
    connection.request(
        lane.method, lane.path, iter([body[:1000], body[1000:]]) if body and lane.chunked else body, headers
    )
    if lane.slow and connection.sock:
        # Or the kernel takes the answer for the client.
        connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    answer = connection.getresponse()
    content = b"".join(slowly(answer)) if lane.slow else answer.read()
    said = answer.headers.get("X-Sample", "")
    wrong = f"status {answer.status}: {content[:80]!r}" if answer.status != 200 else ""
    expected = LARGE if lane.slow else body
    if not wrong and expected is not None and content != expected:
        wrong = f"the body came back changed: {len(content)} bytes of {len(expected)}"
    return answer.status, said, wrong


def slowly(answer: http.client.HTTPResponse) -> Iterator[bytes]:
    """Read an answer so that it takes READ_S."""
    piece = 65536
    began, pause_s = time.monotonic(), READ_S * piece / len(LARGE)
    for count in range(len(LARGE) // piece + 1):
        time.sleep(max(0.0, began + count * pause_s - time.monotonic()))
        content = answer.read(piece)
        if not content:
            return
        yield content


def drive_http2(
    lane: Lane, host: str, place: Site, site: str, write: Callable[[Record], None], end: threading.Event
) -> None:
    """Ask at a constant rate over one connection, which curl opens again when a server says that it is closed."""
    authority = sys.argv[3]
    body = ["--data-binary", "x" * 2048, "--header", "Content-Type: application/octet-stream"]
    fields = [
        "%{http_version}",
        "%{http_code}",
        "%{size_download}",
        "%{time_total}",
        "%header{x-sample}",
        "%{errormsg}",
    ]
    command = [
        *("stdbuf", "--output=L", "curl", "--silent", "--http2", "--max-time", str(TIMEOUT_S), "--cacert", authority),
        *(
            "--resolve",
            f"{site}:443:{place.address}",
            "--output",
            "/dev/null",
            "--write-out",
            "\\t".join(fields) + "\\n",
        ),
        *("--rate", f"{round(60 / lane.every_s)}/m"),
        *(body if lane.method == "POST" else []),
        f"https://{site}{lane.path}?n=[1-1000000]",
    ]
    parent = os.getppid()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as curl:
        assert curl.stdout is not None
        threading.Thread(target=_stop_with, args=(curl, end, parent), daemon=True).start()
        for line in curl.stdout:
            version, status, size, took, said, error = (line.rstrip("\n") + "\t" * 5).split("\t")[:6]
            wrong = error
            if not wrong and status != "200":
                wrong = f"status {status}"
            elif not wrong and version != "2":
                wrong = f"HTTP/{version}"
            elif not wrong and lane.method == "POST" and size != "2048":
                wrong = f"the body came back changed: {size} bytes of 2048"
            ended = time.time()
            write(Record(lane.kind, host, ended - float(took), ended, int(status), said, wrong))


def _stop_with(curl: subprocess.Popen[str], end: threading.Event, parent: int) -> None:
    while not end.wait(0.5) and os.getppid() == parent:
        pass
    curl.terminate()


def drive(lane: Lane, host: str, place: Site, site: str, write: Callable[[Record], None], end: threading.Event) -> None:
    """Ask at a constant rate. A request that takes longer than the pause makes the next ones late, and late they are counted."""
    connection: http.client.HTTPConnection | None = None
    due = time.time()
    parent = os.getppid()
    while not end.wait(max(due - time.time(), 0)) and os.getppid() == parent:
        status, said, wrong = 0, "", ""
        try:
            connection = connection or place.open(site)
            status, said, wrong = ask(connection, lane, site)
        except (OSError, http.client.HTTPException) as error:
            wrong = f"{type(error).__name__}: {error}"
        if connection and (wrong or not lane.keep_alive):
            connection.close()
            connection = None
        ended = time.time()
        write(Record(lane.kind, host, due, ended, status, said, wrong))
        # Where the host does not answer, time starts again: what was never sent is no request.
        due = ended + PAUSE_S if wrong else due + lane.every_s if lane.every_s else ended


def main() -> None:
    """Ask until SIGTERM, then let the requests that are under way end."""
    kind, site, authority, *hosts = sys.argv[1:]
    context = ssl.create_default_context(cafile=authority)
    lines, lock, end = csv.writer(sys.stdout), threading.Lock(), threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: end.set())

    def write(record: Record) -> None:
        with lock:
            lines.writerow(vars(record).values())
            sys.stdout.flush()

    places = [(host, Site(address, context, TIMEOUT_S)) for host, address in (place.split("=") for place in hosts)]
    arguments = [(lane, host, place, site, write, end) for host, place in places for lane in LANES[kind]]
    lanes = [threading.Thread(target=drive_http2 if each[0].http2 else drive, args=each) for each in arguments]
    for lane in lanes:
        lane.start()
    for lane in lanes:
        lane.join()


if __name__ == "__main__":
    main()
