"""Flask with less work for each request: what is not used is not looked for, what never changes is remembered.

Only what Flask and Werkzeug let be overridden is overridden, and their own way is gone wherever something asks for it:
a hook, the receiver of a signal, a function at a response's end. The answers are the same.
"""

from __future__ import annotations  # else those of the functions in a request's way would be evaluated for each request

from typing import TYPE_CHECKING, Any

from flask import Flask, Response, request_tearing_down
from flask.globals import request_ctx
from flask.sessions import NullSession, SessionInterface, SessionMixin
from werkzeug.routing import MapAdapter

if TYPE_CHECKING:
    from collections.abc import Iterable

    from _typeshed.wsgi import WSGIEnvironment
    from flask import Request
    from flask.typing import ResponseReturnValue
    from werkzeug.datastructures import Headers

_MOST_HOSTS = 128  # clients can name any, where nothing in front of the app refuses them
_NO_SESSION = NullSession()


class _NoSessions(SessionInterface):
    """An API has no sessions: all requests share one, which cannot be written to."""

    def open_session(self, *_: object) -> SessionMixin:
        return _NO_SESSION


class Whole(Response):
    """A response with its body, a status that may have one, and no header with an address.

    So nothing is left to find out when it is sent.
    """

    def get_wsgi_headers(self, _: WSGIEnvironment) -> Headers:
        """As they are: Content-Length is among them since the body was set."""
        return self.headers

    def get_app_iter(self, environ: WSGIEnvironment) -> Iterable[bytes]:
        """Give the body, without a wrapper where nothing is to be called at its end."""
        if self._on_close or environ["REQUEST_METHOD"] == "HEAD":
            return super().get_app_iter(environ)
        return self.iter_encoded()


class Lean(Flask):
    """Flask for an API without sessions."""

    session_interface = _NoSessions()

    def __init__(self, *given: Any, **named: Any) -> None:
        """Take what Flask takes."""
        super().__init__(*given, **named)
        self._hosts: dict[tuple[str | None, ...], tuple[str, str, str | None]] = {}

    def create_url_adapter(self, request: Request | None) -> MapAdapter | None:
        """Werkzeug's, which checks and encodes each name of a host once: that was a tenth of a small request."""
        if request is None or "HTTP_UPGRADE" in request.environ:
            return super().create_url_adapter(request)
        environ = request.environ
        get, scheme = environ.get, environ["wsgi.url_scheme"]
        told = scheme, get("HTTP_HOST"), get("SERVER_NAME"), get("SERVER_PORT")
        known = self._hosts.get(told)
        if known is None:
            adapter = super().create_url_adapter(request)
            if adapter:
                if len(self._hosts) >= _MOST_HOSTS:
                    self._hosts.clear()
                self._hosts[told] = request.host, adapter.server_name, adapter.subdomain
            return adapter
        request.host, name, subdomain = known
        path, query = _text(get("PATH_INFO", "/")), _text(get("QUERY_STRING", ""))
        script = _text(get("SCRIPT_NAME", "/"))
        return MapAdapter(self.url_map, name, script, subdomain, scheme, path, environ["REQUEST_METHOD"], query)

    def preprocess_request(self) -> ResponseReturnValue | None:
        """Call the functions before a request, if there are any."""
        if self.before_request_funcs or self.url_value_preprocessors:
            return super().preprocess_request()
        return None

    def process_response(self, response: Response) -> Response:
        """Call the functions after a request, if there are any."""
        if self.after_request_funcs or request_ctx._after_request_functions:  # noqa: SLF001  what flask.after_this_request adds to
            return super().process_response(response)
        return response

    def do_teardown_request(self, *error: Any) -> None:
        """Call the functions at the end of a request, if there are any."""
        if self.teardown_request_funcs or request_tearing_down.receivers:
            super().do_teardown_request(*error)


def _text(of_wsgi: str) -> str:
    """What a server passed on byte by byte, as text."""
    return of_wsgi if of_wsgi.isascii() else of_wsgi.encode("latin1").decode(errors="replace")
