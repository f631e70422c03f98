"""Whoever is told: a web server that takes Alertmanager's JSON, and a mail server, both real and both forgetful of nothing."""

from __future__ import annotations

import email
import email.policy
import json
import socketserver
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

WEBHOOK_PORT, MAIL_PORT = 18080, 18025


@dataclass(frozen=True)
class Notice:
    """An alert that arrived."""

    at: float
    labels: dict[str, str]
    fired: str


@dataclass(frozen=True)
class Mail:
    """A mail that arrived."""

    at: float
    text: str


@dataclass
class Receivers:
    """Both servers, and what they have received."""

    address: str
    notices: list[Notice] = field(default_factory=list)
    mails: list[Mail] = field(default_factory=list)
    servers: list[Any] = field(default_factory=list)

    def start(self) -> None:
        """Begin to listen."""
        socketserver.TCPServer.allow_reuse_address = True
        for port, kind, handler in (
            (WEBHOOK_PORT, ThreadingHTTPServer, Webhook),
            (MAIL_PORT, socketserver.ThreadingTCPServer, MailServer),
        ):
            server = kind((self.address, port), type("Bound", (handler,), {"receivers": self}))
            server.daemon_threads = True
            threading.Thread(target=server.serve_forever, daemon=True).start()
            self.servers.append(server)

    def stop(self) -> None:
        """Stop listening."""
        for server in self.servers:
            server.shutdown()
            server.server_close()


class Webhook(BaseHTTPRequestHandler):
    """Takes what Alertmanager posts."""

    receivers: Receivers

    def do_POST(self) -> None:
        """Note each alert that fires."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        for alert in body["alerts"]:
            if alert["status"] == "firing":
                self.receivers.notices.append(Notice(time.time(), alert["labels"], alert["startsAt"]))
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the base class names it so
        """Say nothing."""


class MailServer(socketserver.StreamRequestHandler):
    """Takes mail (RFC 5321), as much of it as a client needs that sends one."""

    receivers: Receivers

    def handle(self) -> None:
        """Talk to one client."""
        self.say("220 lab.example ESMTP")
        while line := self.rfile.readline():
            command = line.split(None, 1)[0].upper() if line.split() else b""
            if command == b"DATA":
                self.say("354 go on")
                self.take()
                self.say("250 taken")
            elif command == b"QUIT":
                self.say("221 bye")
                return
            else:
                self.say("250 fine")

    def say(self, line: str) -> None:
        """Answer."""
        self.wfile.write(f"{line}\r\n".encode())

    def take(self) -> None:
        """Take a message, up to its dot, and note what a reader would see of it."""
        data = b""
        while (line := self.rfile.readline()) not in {b".\r\n", b""}:
            data += line
        message = email.message_from_bytes(data, policy=email.policy.default)
        parts = [part.get_content() for part in message.walk() if part.get_content_maintype() == "text"]
        self.receivers.mails.append(Mail(time.time(), "\n".join([str(message["Subject"]), *parts])))
