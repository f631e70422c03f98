"""The client of the tests measures the server and not itself."""

import socket

import pytest
from client import Site


def test_a_body_does_not_wait_for_an_acknowledgement(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setattr(Site, "port", server.getsockname()[1])
        opened = Site("127.0.0.1", None).connect("site")
        assert opened.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        opened.close()
