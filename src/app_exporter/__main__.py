"""Serves the metrics of every application on this host to Prometheus.

What it reads, and writes nothing of:

- ``<run>/<app>/<slot>.stats``     uWSGI's stats server, JSON on connect
- ``<run>/<app>/<slot>.metrics/``  files of prometheus_client's multiprocess mode, the application's own metrics
- ``<apps>/<app>/live.sock``       symlink to the socket of the slot that serves clients
- ``<apps>/<app>/history.jsonl``   one JSON object per release
- ``<logs>/<app>.access.log``       NGINX's access log, one JSON object a line
- ``<drained>``                    a file that keeps balancers from sending anything new
- ``<certificates>/``              when the host's and the sites' certificates end
- ``<slices>/apps-<app>.slice/``    the application's cgroup: memory, processor, processes, and what it was refused
- ``<apps>/<app>/missed.json``      runs of jobs that were missed while the host was off
- the kernel's list of listening unix sockets: the true backlog, which uWSGI's ``listen_queue`` is not

A slot is named ``<app>.<release>.<counter>``. Applications write their files themselves and may be broken or hostile:
whatever cannot be read is left out, counted in ``app_exporter_errors_total`` with its name,
and never breaks the scrape.

Standard library only: it runs on the distribution's Python, and prometheus_client's reader in Debian 12 (0.16)
misreads what applications with 0.17 and later write.
"""

from __future__ import annotations

import argparse
import sys
import threading
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from app_exporter.exposition import CONTENT_TYPE
from app_exporter.scrape import Exporter, Settings

FOLLOW_S = 1.0


class Handler(BaseHTTPRequestHandler):
    """Answers ``GET /metrics``."""

    exporter: Exporter
    protocol_version = "HTTP/1.1"
    server_version = "app_exporter"
    sys_version = ""
    timeout = 10

    def do_GET(self) -> None:
        """Answer a scrape."""
        status, body, kind = HTTPStatus.NOT_FOUND, b"metrics are at /metrics\n", "text/plain"
        if self.path.partition("?")[0] == "/metrics":
            status, body, kind = HTTPStatus.OK, self.exporter.scrape(), CONTENT_TYPE
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the base class names it so
        """Log no line per scrape."""


class Server(ThreadingHTTPServer):
    """A thread per connection, so that a client that says nothing keeps nobody waiting."""

    daemon_threads = True
    allow_reuse_address = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that went away; everything else is an error."""
        if not isinstance(sys.exception(), (ConnectionError, TimeoutError)):
            super().handle_error(request, client_address)


def serve(listen: str, exporter: Exporter) -> Server:
    """Bind ``address:port`` and return a server that answers there once it is started."""
    host, _, port = listen.rpartition(":")
    handler = type("BoundHandler", (Handler,), {"exporter": exporter})
    return Server((host, int(port)), handler)


def follow(exporter: Exporter) -> None:
    """Count what NGINX logs, as it comes."""
    while True:
        exporter.logs.poll()
        time.sleep(FOLLOW_S)


def main() -> None:
    """Serve until the end, or print one scrape."""
    parser = argparse.ArgumentParser(description="Serves the metrics of every application on this host to Prometheus.")
    parser.add_argument("--listen", default="127.0.0.1:9117", metavar="ADDRESS:PORT")
    parser.add_argument("--run-directory", type=Path, default=Settings.run)
    parser.add_argument("--apps-directory", type=Path, default=Settings.apps)
    parser.add_argument("--timeout", type=float, default=Settings.timeout_s, metavar="SECONDS")
    parser.add_argument("--max-series", type=int, default=Settings.max_series, metavar="PER_SLOT")
    parser.add_argument("--logs-directory", type=Path, default=Settings.logs)
    parser.add_argument("--certificates-directory", type=Path, default=Settings.certificates)
    parser.add_argument("--drained-file", type=Path, default=Settings.drained)
    parser.add_argument("--slices-directory", type=Path, default=Settings.slices)
    parser.add_argument("--once", action="store_true", help="print one scrape and end")
    arguments = parser.parse_args()
    exporter = Exporter(
        Settings(
            run=arguments.run_directory,
            apps=arguments.apps_directory,
            timeout_s=arguments.timeout,
            max_series=arguments.max_series,
            logs=arguments.logs_directory,
            certificates=arguments.certificates_directory,
            drained=arguments.drained_file,
            slices=arguments.slices_directory,
        )
    )
    if arguments.once:
        sys.stdout.buffer.write(exporter.scrape())
        return
    # Between scrapes too, so that a scrape finds little to count.
    threading.Thread(target=follow, args=(exporter,), daemon=True).start()
    with serve(arguments.listen, exporter) as server:
        server.serve_forever()


if __name__ == "__main__":
    main()
