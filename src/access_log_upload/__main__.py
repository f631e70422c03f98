"""Sends what NGINX writes to the access logs of a host to the journal of a monitoring host, once a second.

A line is taken off when the other side has said that it has it; how far that is stands in a file, for the next start. So nothing is lost
while the other side is away, as long as the rotated files are there. What was sent when the connection broke is sent again.
The very first start begins with what is written from then on. Standard library only: it runs on the distribution's Python.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import ssl
import sys
import threading
import time
from contextlib import closing
from http import HTTPStatus
from http.client import HTTPException, HTTPSConnection
from pathlib import Path
from urllib.parse import urlsplit

from access_log_upload.export import CONTENT_TYPE, entries
from access_log_upload.files import MAX_BYTES, AccessLog, site_of

INTERVAL_S, PATIENCE_S, RETRY_S = 1.0, 30.0, 5.0
REST_S = 600.0  # a connection that rested for longer may be known to this end alone
BODY_BYTES = 4 << 20


class AwayError(Exception):
    """The other side does not take what it is sent."""


class Archive:
    """The monitoring host's end of it."""

    def __init__(self, url: str, credentials: Path) -> None:
        """Connect when there is something to send."""
        self._address = urlsplit(url)
        self._tls = ssl.create_default_context(cafile=credentials / "authority")
        self._tls.load_cert_chain(credentials / "certificate", credentials / "key")
        self._connection: HTTPSConnection | None = None
        self._used = 0.0

    def put(self, body: bytes) -> None:
        """Send entries, and hear that they are there.

        Raises:
            AwayError: they are not, or nobody knows.
        """
        try:
            if not self._connection or time.monotonic() - self._used > REST_S:
                self._close()
                self._connection = HTTPSConnection(
                    self._address.hostname or "", self._address.port, timeout=PATIENCE_S, context=self._tls
                )
            self._connection.request("POST", "/upload", body, {"Content-Type": CONTENT_TYPE})
            answer = self._connection.getresponse()
            said = answer.read().decode(errors="replace").strip()
        except (OSError, HTTPException) as error:
            self._close()
            raise AwayError(repr(error)) from error
        self._used = time.monotonic()
        if answer.status != HTTPStatus.ACCEPTED:
            raise AwayError(f"it answers {answer.status} {said}")

    def _close(self) -> None:
        if self._connection:
            self._connection.close()
        self._connection = None


class Uploader:
    """The access logs of a directory, and how much of them was sent."""

    def __init__(self, directory: Path, kept: Path, archive: Archive, host: str) -> None:
        """Go on where the file `kept` says."""
        self._directory, self._kept, self._archive, self._host = directory, kept, archive, host
        self._logs: dict[str, AccessLog] = {}
        self._problem = ""
        try:
            places = json.loads(kept.read_text(encoding="utf-8"))
            self._logs = {name: AccessLog(directory, name, *place) for name, place in places.items()}
        except FileNotFoundError:
            self._find()
            for log in self._logs.values():
                log.skip()
            self._keep()
        except (ValueError, TypeError) as error:
            self._tell(f"{kept}: {error}; all that the files have is sent again")

    def send(self) -> bool:
        """Send what is new; whether there is probably more.

        Raises:
            AwayError: the other side does not have it.
        """
        self._find()
        found: dict[str, bytes] = {}
        room = BODY_BYTES
        for name, log in self._logs.items():
            if room > 0 and (lines := self._read(log)):
                found[name] = lines
                room -= len(lines)
        if not found:
            return False
        self._archive.put(b"".join(entries(lines, name, self._host) for name, lines in found.items()))
        for name, lines in found.items():
            self._logs[name].sent(lines)
        self._keep()
        return room <= 0 or any(len(lines) > MAX_BYTES // 2 for lines in found.values())

    def close(self) -> None:
        """Let go of all files."""
        for log in self._logs.values():
            log.close()

    def _find(self) -> None:
        names = {site_of(path) for path in self._directory.iterdir()} - {""}
        for name in sorted(names - self._logs.keys()):
            self._logs[name] = AccessLog(self._directory, name)
        for name in self._logs.keys() - names:
            self._logs.pop(name).close()

    def _read(self, log: AccessLog) -> bytes:
        try:
            return log.lines()
        except OSError as error:
            self._tell(f"{log.path}: {error}")
            return b""

    def _keep(self) -> None:
        """Write down how far it got; on a full disk that is told, and what was sent since is sent again by the next start."""
        made = self._kept.with_suffix(".new")
        try:
            with made.open("w", encoding="utf-8") as file:
                json.dump({name: [log.first, log.offset] for name, log in self._logs.items()}, file)
                file.flush()
                os.fsync(file.fileno())
            made.replace(self._kept)
        except OSError as error:
            self._tell(f"{self._kept}: {error}")

    def _tell(self, problem: str) -> None:
        if problem != self._problem:
            print(problem, file=sys.stderr, flush=True)
        self._problem = problem


def run(uploader: Uploader, ending: threading.Event) -> None:
    """Send until it is told to end, and then once more: NGINX has ended before."""
    is_away = False
    while True:
        is_last = ending.is_set()
        try:
            is_more = uploader.send()
        except AwayError as error:
            if not is_away:
                print(f"cannot send: {error}; the lines wait in their files", file=sys.stderr, flush=True)
            is_away, is_more = True, False
        else:
            if is_away:
                print("sends again", file=sys.stderr, flush=True)
            is_away = False
        if is_last:
            return
        if not is_more:
            ending.wait(RETRY_S if is_away else INTERVAL_S)


def main() -> None:
    """Run until it is ended."""
    parser = argparse.ArgumentParser(prog="access_log_upload")
    parser.add_argument("url", help="where journals are taken, as https://HOST:19532")
    parser.add_argument("--logs", type=Path, default=Path("/var/log/nginx"))
    asked = parser.parse_args()
    ending = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ending.set())
    archive = Archive(asked.url, Path(os.environ["CREDENTIALS_DIRECTORY"]))
    kept = Path(os.environ["STATE_DIRECTORY"], "places.json")
    with closing(Uploader(asked.logs, kept, archive, socket.gethostname())) as uploader:
        run(uploader, ending)


if __name__ == "__main__":
    main()
