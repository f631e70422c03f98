"""Logs: one JSON object on one line of stderr for each event. Nothing ever goes to stdout."""

import json
import logging
import sys
import threading
from datetime import UTC, datetime
from types import TracebackType
from typing import Literal, TextIO

from api import context

# journald cuts a line at 48 KiB (LineMax in journald.conf); a cut line is no JSON any more.
LIMIT = 16_000

_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """Everything of a record that a reader needs. `extra=` fields of the call become fields of the object."""

    def __init__(self, **always: str) -> None:
        super().__init__()
        self._always = always

    def format(self, record: logging.LogRecord) -> str:
        """Text of one event. All but ASCII is escaped, so no client can end the line or forge another."""
        event: dict[str, object] = {
            "ts": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _shorten(record.getMessage()),
            **self._always,
        }
        if request := context.current.get():
            event |= {"request_id": request.request_id, **request.trace()}
        event |= {key: value for key, value in vars(record).items() if key not in _OWN and key not in event}
        if record.exc_info:
            event["exception"] = _shorten(self.formatException(record.exc_info))
        return json.dumps(event, default=str)


def _shorten(text: str) -> str:
    half = LIMIT // 2
    return text if len(text) <= LIMIT else f"{text[:half]}\n[...]\n{text[-half:]}"


class _Stderr(logging.StreamHandler[TextIO]):
    """Writes to what stderr is at the time of the event, should anything have replaced it since the start."""

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        super().emit(record)


def configure(level: Literal["debug", "info", "warning", "error"], **always: str) -> None:
    """Send all logs, warnings and uncaught exceptions of this process to stderr as JSON. `always` is in each event."""
    handler = _Stderr()
    handler.setFormatter(JsonFormatter(**always))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("api").setLevel(level.upper())
    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # else Flask's own server says a line for each request
    logging.captureWarnings(capture=True)
    sys.excepthook = _uncaught
    threading.excepthook = _uncaught_in_thread


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    logging.getLogger("api").critical("uncaught exception", exc_info=(kind, error, trace))


def _uncaught_in_thread(arguments: threading.ExceptHookArgs) -> None:
    error = arguments.exc_value or arguments.exc_type()
    _uncaught(arguments.exc_type, error, arguments.exc_traceback)
