"""A WSGI application that tells what reached it: to the client, and to a file that no client can change."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

Start = Callable[[str, list[tuple[str, str]]], Any]
SEEN = Path("/srv/apps/echo/data/seen.jsonl")


def app(environ: dict[str, Any], start_response: Start) -> Iterable[bytes]:
    """Answer with the request as WSGI hands it over, and write it down unless it is a probe."""
    text = {name: value for name, value in environ.items() if isinstance(value, str)}
    body = json.dumps({**text, "body": environ["wsgi.input"].read().decode("latin-1")}).encode()
    if environ["PATH_INFO"] != "/ready":
        with SEEN.open("ab") as file:
            file.write(body + b"\n")
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]
