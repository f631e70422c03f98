import json
import logging
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
from flask.testing import FlaskClient

from api import context, logs

FORGED = 'x\n{"level": "critical"}\r\x85\u2028\x1b[31m'


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str]) -> Iterator[Any]:
    """Configured logs, and a function that returns the events since the last call."""
    logs.configure("info", app="api", release="r1")

    def read() -> list[dict[str, Any]]:
        out, err = capsys.readouterr()
        assert out == ""
        return [json.loads(line) for line in err.split("\n") if line]

    yield read
    logging.captureWarnings(capture=False)


def test_event_is_one_line_of_json(lines: Any) -> None:
    logging.getLogger("api.test").warning("hello %s", "world", extra={"count": 3, "level": "ignored"})
    (event,) = lines()
    assert event["ts"].endswith("+00:00")
    del event["ts"]
    assert event == {
        "level": "warning",
        "logger": "api.test",
        "message": "hello world",
        "app": "api",
        "release": "r1",
        "count": 3,
    }


def test_client_cannot_forge_a_line(lines: Any) -> None:
    logging.getLogger("api").error("said %s", FORGED, extra={"name_of_item": FORGED, FORGED: 1})
    (event,) = lines()
    assert event["message"] == f"said {FORGED}"
    assert event["level"] == "error"


def test_raw_output_has_no_byte_beyond_ascii(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("info")
    logging.getLogger("api").error(FORGED)
    written = capsys.readouterr().err
    assert written.count("\n") == 1
    assert all(" " <= character <= "~" for character in written[:-1])


def test_exception_is_one_line(lines: Any) -> None:
    logging.getLogger("api").error("failed", exc_info=ValueError(FORGED))
    (event,) = lines()
    assert event["exception"] == f"ValueError: {FORGED}"


def test_long_text_is_cut_in_the_middle(lines: Any) -> None:
    logging.getLogger("api").error("%sz", "a" * 50_000)
    (event,) = lines()
    assert len(event["message"]) < logs.LIMIT + 20
    assert event["message"].endswith("z")


def test_level_of_the_profile_holds_for_us_and_others_are_quiet(lines: Any) -> None:
    for name in ("api", "werkzeug", "some.library"):
        logging.getLogger(name).debug("debug")
        logging.getLogger(name).info("info")
        logging.getLogger(name).warning("warning")
    found = [(event["logger"], event["message"]) for event in lines()]
    assert found == [("api", "info"), *[(name, "warning") for name in ("api", "werkzeug", "some.library")]]


def test_request_and_trace_stand_in_each_event_of_a_request(lines: Any) -> None:
    trace, parent = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
    request = context.Request("id-12345", f"00-{trace}-{parent}-01", time.monotonic())
    token = context.current.set(request)
    logging.getLogger("api").info("inside")
    context.current.reset(token)
    logging.getLogger("api").info("outside")
    inside, outside = lines()
    assert (inside["request_id"], inside["trace_id"], inside["parent_id"]) == ("id-12345", trace, parent)
    assert "request_id" not in outside


@pytest.mark.parametrize(
    "sent",
    [
        None,
        "",
        "nonsense",
        "00-" + "0" * 32 + "-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-" + "0" * 16 + "-01",
        "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
    ],
)
def test_invalid_traceparent_is_no_trace(sent: str | None) -> None:
    assert context.Request("id-12345", sent, 0).trace() == {}


def test_warnings_and_uncaught_exceptions_are_events(lines: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old", DeprecationWarning, stacklevel=1)
    sys.excepthook(ValueError, ValueError("lost"), None)
    thread = threading.Thread(target=lambda: 1 / 0)
    thread.start()
    thread.join()
    warned, lost, in_thread = lines()
    assert warned["logger"] == "py.warnings"
    assert (lost["level"], lost["exception"]) == ("critical", "ValueError: lost")
    assert in_thread["exception"].endswith("ZeroDivisionError: division by zero")


def test_fault_of_ours_is_logged_under_the_id_that_the_caller_gets(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch, lines: Any
) -> None:
    monkeypatch.setattr("api.routes.health.Version", lambda **_: 1 / 0)
    answer = client.get("/version", headers={"X-Request-ID": "seen-by-the-caller"})
    assert answer.status_code == 500
    assert "division" not in answer.text
    (event,) = lines()
    assert event["request_id"] == "seen-by-the-caller" == answer.get_json()["request_id"]
    assert "ZeroDivisionError" in event["exception"]


def test_importing_everything_writes_nothing() -> None:
    code = "import api.wsgi, api.migrate, api.config.__main__"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, env={})
    assert (done.stdout, done.stderr) == (b"", b"")
