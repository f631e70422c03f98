"""A small API in good and bad variants, to see what its releases do to its clients."""

from __future__ import annotations

import importlib
import os
import time

from flask import Flask, Response, request
from variant import is_broken


def answer(body: str | bytes, status: int = 200) -> Response:
    """Say with each answer which release gave it, and with which configuration."""
    found = Response(body, status, mimetype="application/octet-stream")
    found.headers["X-Sample"] = f"{os.environ['APP_RELEASE']} {os.environ['GREETING']}"
    return found


def greet() -> Response:
    """Answer at once."""
    return answer("traffic is too much for it", 500) if is_broken("traffic") else answer(os.environ["GREETING"])


def echo() -> Response:
    """Give the body back."""
    return answer(request.get_data())


def hold() -> Response:
    """Take 1.5 seconds."""
    time.sleep(1.5)
    return answer("held")


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
app.add_url_rule("/hold", view_func=hold)
app.add_url_rule("/health/ready", view_func=ready)
