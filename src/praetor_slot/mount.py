"""Puts an app below a path, as PEP 3333 says it: what is above the app is in SCRIPT_NAME, and PATH_INFO begins with the app."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

Start = Callable[..., Callable[[bytes], object]]
App = Callable[[dict[str, Any], Start], Iterable[bytes]]


def mounted(app: App, mount: str) -> App:
    """The app below a path such as /shop; the app itself where the path is empty."""

    def below(environ: dict[str, Any], start_response: Start) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path != mount and not path.startswith(f"{mount}/"):
            start_response("404 Not Found", [("Content-Type", "text/plain")])
            return [b"Not Found\n"]
        environ["SCRIPT_NAME"], environ["PATH_INFO"] = mount, path[len(mount) :]
        return app(environ, start_response)

    return below if mount else app
