"""Load on some ports of this host, over TLS: a line of CSV for each request, with when it began, when it ended and its status (0: no answer).

`python3 load.py NAME FILE PORT...`, until it is ended. Two clients a port, at most ten requests a second each, in turns a GET and a POST: one keeps its
connection, one opens a new one each time. A client waits for its answer, however long that takes, so a stall is one long answer of each.
"""

from __future__ import annotations

import http.client
import itertools
import json
import socket
import ssl
import sys
import threading
import time
from pathlib import Path

EVERY_S, TIMEOUT_S = 0.1, 15.0
BODY = json.dumps({"name": "thing", "tags": ["a", "b"], "quantity": 3})


class Here(http.client.HTTPSConnection):
    """A connection to this host, whatever the name says."""

    def connect(self) -> None:
        """Connect."""
        plain = socket.create_connection(("127.0.0.1", self.port), self.timeout)
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # It measures: who answers on loopback needs no proof.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        self.sock = context.wrap_socket(plain, server_hostname=self.host)


def drive(name: str, port: int, lines: list[str], *, kept: bool) -> None:
    """Ask again and again."""
    began, connection = time.time(), Here(name, port, timeout=TIMEOUT_S)
    for number in itertools.count():
        time.sleep(max(0.0, began + EVERY_S - time.time()))
        began = time.time()
        try:
            if number % 2:
                connection.request("POST", "/measured", BODY, {"Content-Type": "application/json"})
            else:
                connection.request("GET", "/measured/7")
            answer = connection.getresponse()
            answer.read()
            status = answer.status
        except (OSError, http.client.HTTPException):
            status = 0
        if not kept or not status:
            connection.close()
            connection = Here(name, port, timeout=TIMEOUT_S)
        lines.append(f"{port},{began:.4f},{time.time():.4f},{status}\n")


def main(name: str, file: str, *ports: str) -> None:
    """Ask, and write what came of it once a second."""
    lines: list[str] = []
    for port in ports:
        for kept in (True, False):
            threading.Thread(target=drive, args=(name, int(port), lines), kwargs={"kept": kept}, daemon=True).start()
    with Path(file).open("w", encoding="utf-8") as out:
        while True:
            time.sleep(1)
            count = len(lines)
            out.writelines(lines[:count])
            out.flush()
            del lines[:count]


if __name__ == "__main__":
    main(*sys.argv[1:])
