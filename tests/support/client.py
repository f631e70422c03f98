"""A client of the sites: it connects to a host's address, whatever the name resolves to, and checks the certificate for the name."""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple


class Answer(NamedTuple):
    """An HTTP response that was read to its end."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes


class _AtAddress(http.client.HTTPConnection):
    """A connection to an address that need not be the name's; if a server closes it after an answer, it is opened again."""

    def __init__(self, site: Site, name: str) -> None:
        super().__init__(name)
        self.site, self.name = site, name

    def connect(self) -> None:
        self.sock = self.site.connect(self.name)


@dataclass(frozen=True)
class Site:
    """Where the sites of a host are, and whom a client trusts; without a context they speak plain HTTP."""

    address: str
    context: ssl.SSLContext | None
    timeout_s: float = 10

    @property
    def port(self) -> int:
        """The port of the sites."""
        return 80 if self.context is None else 443

    def connect(self, name: str) -> socket.socket:
        """Open a connection to a site."""
        opened = socket.create_connection((self.address, self.port), timeout=self.timeout_s)
        # As http.client does: or a body waits 40 ms for the acknowledgement of its headers.
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.context is None:
            return opened
        try:
            return self.context.wrap_socket(opened, server_hostname=name)
        except BaseException:
            opened.close()
            raise

    def open(self, name: str) -> http.client.HTTPConnection:
        """A connection to a site for any number of requests."""
        return _AtAddress(self, name)

    def ask(
        self,
        name: str,
        path: str,
        headers: Mapping[str, str] | None = None,
        method: str = "GET",
        body: bytes | None = None,
    ) -> Answer:
        """Send one request."""
        with contextlib.closing(self.open(name)) as connection:
            connection.request(method, path, body, {"Host": name, **(headers or {})})
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())

    def raw(self, name: str, request: bytes) -> bytes:
        """Send bytes and return what comes back until the connection is closed; nothing if it is reset."""
        return exchange(self.connect(name), request)


def exchange(connection: socket.socket, request: bytes) -> bytes:
    """Send bytes on a connection and return what comes back until it is closed; nothing if it is reset."""
    answer = b""
    with contextlib.closing(connection), contextlib.suppress(ConnectionError, ssl.SSLError):
        connection.sendall(request)
        while data := connection.recv(65536):
            answer += data
    return answer
