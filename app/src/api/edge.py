"""The outermost layer, plain WSGI: request id, deadline, security headers and metrics of every request.

In Flask's hooks the metrics alone cost a fifth of a small request.
"""

from __future__ import annotations  # else those of the function in a request's way would be evaluated for each request

import re
from secrets import token_hex
from time import monotonic
from typing import TYPE_CHECKING, Any

from api import context

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

ROUTE = "api.route"

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{8,64}").fullmatch

# The page of the documentation needs 'self'; JSON needs nothing.
_CONTENT_SECURITY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
SECURITY_HEADERS = [
    ("Content-Security-Policy", _CONTENT_SECURITY),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Referrer-Policy", "no-referrer"),
    ("X-Content-Type-Options", "nosniff"),
]


class Edge:
    """Wraps a WSGI application. `observe(method, route, status, seconds)` is called once for each request."""

    def __init__(
        self, app: WSGIApplication, deadline_s: float, observe: Callable[[str, str, str, float], None]
    ) -> None:
        self._app = app
        self._deadline_s = deadline_s
        self._observe = observe

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer one request."""
        started = monotonic()
        request_id = environ.get("HTTP_X_REQUEST_ID", "")
        if not _REQUEST_ID(request_id):
            request_id = token_hex(16)
        code = "500"

        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], object]:
            nonlocal code
            code = status[:3]
            return start_response(status, [*headers, ("X-Request-ID", request_id), *SECURITY_HEADERS], exc_info)

        request = context.Request(request_id, environ.get("HTTP_TRACEPARENT"), started + self._deadline_s)
        token = context.current.set(request)
        try:
            return self._app(environ, start)
        finally:
            context.current.reset(token)
            route = environ.get(ROUTE, "unmatched")
            self._observe(environ["REQUEST_METHOD"], route, code, monotonic() - started)
