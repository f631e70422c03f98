"""Constant load on some hosts: every answer, and every request that got none, becomes a line of CSV on stdout.

    python load.py sample.lab.example authority.pem app1=198.18.0.11 app2=198.18.0.12

Over TLS. Plain threads with the standard library's client: it repeats nothing by itself, so what a client would see is what is recorded.
"""

from __future__ import annotations

import csv
import http.client
import os
import signal
import ssl
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from client import Site

TIMEOUT_S = 15.0
PAUSE_S = 0.1  # after a failure
HELD_S = 1.5  # how long the sample takes for a request to /hold


@dataclass(frozen=True)
class Lane:
    """One client that asks the same thing again and again."""

    kind: str
    every_s: float  # 0: as soon as the last answer is there
    keep_alive: bool
    method: str
    path: str
    chunked: bool = False  # a body whose length is not said before


LANES = (
    Lane("get", 0.1, keep_alive=True, method="GET", path="/"),
    Lane("get-new", 0.2, keep_alive=False, method="GET", path="/"),
    Lane("post", 0.15, keep_alive=True, method="POST", path="/echo"),
    Lane("post-new", 0.3, keep_alive=False, method="POST", path="/echo"),
    Lane("post-chunked", 0.3, keep_alive=True, method="POST", path="/echo/file", chunked=True),
    Lane("hold", 0, keep_alive=True, method="GET", path="/hold"),
)


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
        return self.ended - self.due - (HELD_S if self.kind == "hold" else 0)


def ask(connection: http.client.HTTPConnection, lane: Lane, site: str) -> tuple[int, str, str]:
    """Send one request; returns status, X-Sample and what is wrong."""
    body = os.urandom(1024).hex().encode() if lane.method == "POST" else None
    headers = {"Host": site} if lane.keep_alive else {"Host": site, "Connection": "close"}
    # The client sends what it cannot measure in chunks.
    connection.request(
        lane.method, lane.path, iter([body[:1000], body[1000:]]) if body and lane.chunked else body, headers
    )
    answer = connection.getresponse()
    content = answer.read()
    said = answer.headers.get("X-Sample", "")
    wrong = f"status {answer.status}: {content[:80]!r}" if answer.status != 200 else ""
    if not wrong and body is not None and content != body:
        wrong = f"the body came back changed: {len(content)} bytes of {len(body)}"
    return answer.status, said, wrong


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
    site, authority, *hosts = sys.argv[1:]
    context = ssl.create_default_context(cafile=authority)
    lines, lock, end = csv.writer(sys.stdout), threading.Lock(), threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: end.set())

    def write(record: Record) -> None:
        with lock:
            lines.writerow(vars(record).values())
            sys.stdout.flush()

    places = [(host, Site(address, context, TIMEOUT_S)) for host, address in (place.split("=") for place in hosts)]
    arguments = [(lane, host, place, site, write, end) for host, place in places for lane in LANES]
    lanes = [threading.Thread(target=drive, args=each) for each in arguments]
    for lane in lanes:
        lane.start()
    for lane in lanes:
        lane.join()


if __name__ == "__main__":
    main()
