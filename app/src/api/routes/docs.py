"""The contract for programs (`/openapi.json`) and for people (`/docs`, a page that loads nothing from elsewhere)."""

import hashlib
from collections.abc import Callable, Iterable
from importlib import resources
from importlib.metadata import metadata

from flask import Flask, Response, request

from api.edge import ROUTE
from api.openapi import document
from api.typed import JSON, Operation

_FILES = (
    ("/docs", "docs.html", "text/html; charset=utf-8"),
    ("/docs/docs.css", "docs.css", "text/css; charset=utf-8"),
    ("/docs/icon.svg", "icon.svg", "image/svg+xml"),
    ("/docs/docs.js", "docs.js", "text/javascript; charset=utf-8"),
)


def register(app: Flask, operations: Iterable[Operation]) -> None:
    """Serve both from memory."""
    about = metadata("api")
    contract = document(about["Summary"], about["Version"], operations)
    folder = resources.files("api") / "static"
    served = [("/openapi.json", contract, JSON)]
    served += [(path, (folder / name).read_bytes(), kind) for path, name, kind in _FILES]
    for path, content, kind in served:
        app.add_url_rule(path, path, _view(path, content, kind))


def _view(path: str, content: bytes, kind: str) -> Callable[[], Response]:
    etag = hashlib.sha256(content).hexdigest()[:16]

    def view() -> Response:
        request.environ[ROUTE] = path
        response = Response(content, content_type=kind, headers={"Cache-Control": "no-cache"})
        response.set_etag(etag)
        response.make_conditional(request)
        return response

    return view
