"""A small API in good and bad variants, to see what its releases do to its clients."""

from __future__ import annotations

import importlib
import os
import tempfile
import time

from flask import Flask, Response, request, send_file
from variant import is_broken


def answer(body: str | bytes | bytearray, status: int = 200) -> Response:
    """An answer of bytes."""
    return signed(Response(body, status, mimetype="application/octet-stream"))


def signed(found: Response) -> Response:
    """Say with each answer which release gave it, and with which configuration."""
    found.headers["X-Sample"] = f"{os.environ['APP_RELEASE']} {os.environ['GREETING']}"
    return found


def greet() -> Response:
    """Answer at once."""
    return answer("traffic is too much for it", 500) if is_broken("traffic") else answer(os.environ["GREETING"])


def echo() -> Response:
    """Give the body back, as a kind of bytes that Flask takes and a WSGI server need not."""
    return answer(bytearray(request.get_data()))


def echo_file() -> Response:
    """Give the body back from the middle of a file, where a WSGI server that sends files by itself need not begin."""
    file = tempfile.TemporaryFile()  # noqa: SIM115  it is closed when the answer was sent
    file.write(b"not this; " + request.get_data())
    file.seek(len(b"not this; "))
    return signed(send_file(file, mimetype="application/octet-stream"))


def hold() -> Response:
    """Take 1.5 seconds."""
    time.sleep(1.5)
    return answer("held")


def large() -> Response:
    """More bytes than the buffers on their way hold."""
    return answer(bytes(range(256)) * 32768)


def huge() -> Response:
    """200 MiB in pieces, each of which says where it belongs."""
    return signed(
        Response((number.to_bytes(8, "big") * 8192 for number in range(3200)), mimetype="application/octet-stream")
    )


def stuck() -> Response:
    """Wait for what never comes."""
    time.sleep(600)
    return answer("it came")


def ready() -> Response:
    """Say whether traffic may come."""
    return answer("no database", 503) if is_broken("ready") else answer("ready")


if is_broken("import"):
    importlib.import_module("a_module_that_nobody_installed")
if is_broken("start"):
    time.sleep(3600)

app = Flask(__name__)
app.add_url_rule("/", view_func=greet)
app.add_url_rule("/echo", view_func=echo, methods=["POST"])
app.add_url_rule("/echo/file", view_func=echo_file, methods=["POST"])
app.add_url_rule("/hold", view_func=hold)
app.add_url_rule("/large", view_func=large)
app.add_url_rule("/huge", view_func=huge)
app.add_url_rule("/stuck", view_func=stuck)
app.add_url_rule("/health/ready", view_func=ready)
