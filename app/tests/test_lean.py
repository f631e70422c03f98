"""`Lean` answers as Flask does: each request is put to both, twice, since the second time some of it is remembered."""

import json
from typing import Any

import pytest
from flask import Flask, Response, after_this_request, request, request_tearing_down, session, url_for
from werkzeug.exceptions import HTTPException
from werkzeug.test import EnvironBuilder, run_wsgi_app

from api.lean import Lean, Whole

KINDS = (Flask, Lean)


def of_kind(kind: type[Flask]) -> Flask:
    """An app with a route for each thing that could differ."""
    app = kind("both", static_folder=None)

    @app.get("/things/<name>/")
    def show(name: str) -> Response:
        facts = [
            name,
            request.host,
            request.url,
            request.root_path,
            request.path,
            url_for("show", name=name),
            url_for("show", name=name, _external=True),
        ]
        answer = Response if kind is Flask else Whole
        return answer(json.dumps(facts), content_type="application/json")

    return app


def ask(app: Flask, environ: dict[str, Any]) -> object:
    """Status, headers and body, or what went wrong."""
    try:
        body, status, headers = run_wsgi_app(app, environ, buffered=True)
    except (KeyError, HTTPException) as error:
        return repr(error)
    return status, sorted(headers), b"".join(body)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"HTTP_HOST": "api.example:443", "wsgi.url_scheme": "https"},
        {"HTTP_HOST": "API.Example:8080"},
        {"HTTP_HOST": "[2001:db8::1]:8080"},
        {"HTTP_HOST": "xn--bcher-kva.example"},
        {"HTTP_HOST": "two names"},
        {"HTTP_HOST": "a" * 64 + ".example"},
        {"HTTP_HOST": ""},
        {"HTTP_HOST": None},
        {"HTTP_HOST": None, "SERVER_NAME": "2001:db8::1", "SERVER_PORT": "81"},
        {"HTTP_HOST": None, "SERVER_NAME": "/run/socket", "SERVER_PORT": ""},
        {"REQUEST_METHOD": "HEAD"},
        {"REQUEST_METHOD": "OPTIONS"},
        {"REQUEST_METHOD": "PUT"},
        {"PATH_INFO": "/things/b\xc3\xbccher/"},
        {"PATH_INFO": "/things/\xff/"},
        {"PATH_INFO": "/things/a", "QUERY_STRING": "x=b\xc3\xbc&y=%20"},
        {"PATH_INFO": "//things/a/"},
        {"PATH_INFO": ""},
        {"PATH_INFO": None},
        {"SCRIPT_NAME": "/below"},
        {"SCRIPT_NAME": None},
        {"QUERY_STRING": None},
        {"HTTP_CONNECTION": "upgrade", "HTTP_UPGRADE": "websocket"},
    ],
    ids=repr,
)
def test_a_request_is_answered_as_by_flask(changes: dict[str, str | None]) -> None:
    environ: dict[str, Any] = EnvironBuilder("/things/a/").get_environ()
    for name, value in changes.items():
        environ.pop(name, None)
        if value is not None:
            environ[name] = value
    by_flask, by_lean = (of_kind(kind) for kind in KINDS)
    found = ask(by_flask, dict(environ))
    for _ in range(2):
        assert ask(by_lean, dict(environ)) == found


@pytest.mark.parametrize("setting", [{"SERVER_NAME": "api.example:80"}, {"TRUSTED_HOSTS": ["other.example"]}])
def test_settings_about_hosts_are_heeded(setting: dict[str, Any]) -> None:
    apps = [of_kind(kind) for kind in KINDS]
    for app in apps:
        app.config.update(setting)
    for host in ("api.example", "other.example", "api.example"):
        first, second = (ask(app, EnvironBuilder("/things/a/", headers=[("Host", host)]).get_environ()) for app in apps)
        assert first == second


def test_a_name_is_remembered_for_its_scheme_and_its_server() -> None:
    by_flask, by_lean = (of_kind(kind) for kind in KINDS)
    for scheme in ("http", "https"):
        for changes in (
            {"HTTP_HOST": "api.example:443"},
            {"SERVER_NAME": "a"},
            {"SERVER_NAME": "b"},
            {"SERVER_PORT": "8"},
            {"SERVER_PORT": "9"},
        ):
            environ = EnvironBuilder("/things/a/").get_environ() | {"wsgi.url_scheme": scheme} | changes
            if "HTTP_HOST" not in changes:
                del environ["HTTP_HOST"]
            assert ask(by_lean, dict(environ)) == ask(by_flask, dict(environ))


def test_no_more_hosts_are_remembered_than_clients_may_fill_memory_with() -> None:
    app = Lean("many")
    app.add_url_rule("/", "root", lambda: request.host)
    for number in range(1000):
        assert app.test_client().get("/", headers={"Host": f"h{number}.example"}).text == f"h{number}.example"
    assert len(app._hosts) <= 128


@pytest.mark.parametrize("kind", KINDS)
def test_what_hangs_on_to_a_request_is_called(kind: type[Flask]) -> None:
    app = kind("hooks")
    called: list[str] = []

    @app.get("/")
    def show() -> Response:
        called.append("view")
        answer = (Response if kind is Flask else Whole)("whole")
        answer.call_on_close(lambda: called.append("closed"))

        @after_this_request
        def this(response: Response) -> Response:
            called.append("after this")
            return response

        return answer

    def torn(*_: object, **__: object) -> None:
        called.append("signal")

    with app.test_client() as client, request_tearing_down.connected_to(torn, app):
        answer = client.get("/")
        assert answer.text == "whole"
        answer.close()
    assert sorted(called) == ["after this", "closed", "signal", "view"]

    app = kind("hooks")
    called.clear()
    app.add_url_rule("/", "show", show)
    app.before_request(lambda: called.append("before"))
    app.url_value_preprocessor(lambda *_: called.append("values"))

    @app.after_request
    def after(response: Response) -> Response:
        called.append("after")
        return response

    app.teardown_request(lambda _: called.append("torn down"))
    app.test_client().get("/").close()
    assert sorted(called) == ["after", "after this", "before", "closed", "torn down", "values", "view"]


def test_a_session_is_nowhere() -> None:
    app = Lean("none")

    @app.get("/")
    def show() -> str:
        with pytest.raises(RuntimeError, match="secret key"):
            session["a"] = 1
        return "none"

    answer = app.test_client().get("/")
    assert (answer.text, "Set-Cookie" in answer.headers) == ("none", False)
