"""Stands between uWSGI and the app, for what uWSGI does not do.

- The first worker of a slot loads the app alone: many apps make their tables, or bring them up to date, while they are loaded.
- A worker that cannot load the app says so in a file, waits, and lets uWSGI start it again: the others serve meanwhile.
- Each request's deadline is written where the watch sees it, see watch.py.
- An answer that breaks off is never ended: FastCGI's end mark is not sent, so that NGINX breaks its own off, and the client sees it.
- Event streams reach the client at once.
"""

from __future__ import annotations

import ast
import contextlib
import fcntl
import importlib
import inspect
import io
import json
import mmap
import os
import pathlib
import signal
import socket
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from typing import IO, Any

import uwsgi

from .watch import MOST_THREADS, ROW, log, say

IN_MEMORY, READ = 256 * 1024, 64 * 1024  # bytes of a request's body: kept in memory, read at a time
PAUSES_S = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)  # between two attempts to load

Headers = list[tuple[str, str]]
Write = Callable[[bytes], object]
Start = Callable[..., Write]
App = Callable[[dict[str, Any], Start], Iterable[bytes]]


def find(reference: str) -> App:
    """The app that `module:callable` or `module:factory()` names; a factory may get literals.

    Raises:
        TypeError: it is there, but no WSGI application.
    """
    module, _, name = reference.partition(":")
    name, is_called, arguments = name.partition("(")
    found: Any = getattr(importlib.import_module(module), name)
    if is_called:
        found = _called(found, arguments)
    if inspect.iscoroutinefunction(found) or inspect.iscoroutinefunction(getattr(found, "__call__", None)):  # noqa: B004  what it is, not whether
        raise TypeError(
            f"{reference} is an ASGI application, and apps here are WSGI applications: wrap it (a2wsgi.ASGIMiddleware), or run it with another server"
        )
    if not callable(found):
        raise TypeError(f"{reference} is {type(found).__name__}, not a WSGI application: it cannot be called")
    app: App = found
    return app


def _called(factory: Callable[..., Any], arguments: str) -> Any:
    """What a factory makes of the arguments in `'production', debug=False)`."""
    call = ast.parse(f"factory({arguments}", mode="eval").body
    if not isinstance(call, ast.Call):
        raise TypeError(f"({arguments} are no arguments of a factory")
    named = {word.arg: ast.literal_eval(word.value) for word in call.keywords if word.arg}
    return factory(*map(ast.literal_eval, call.args), **named)


def load(reference: str, state: str) -> App:
    """Load the app. In a worker that cannot, this waits and ends it, for uWSGI to start it again.

    Args:
        reference: `module:callable` or `module:factory()`.
        state: directory in which a worker notes how it is getting on.
    """
    if uwsgi.worker_id() == 0:  # in the master, before the fork: uWSGI ends the slot if this fails
        return find(reference)
    who = str(uwsgi.worker_id())
    # Until the app is loaded there is nothing to be graceful about: a slot that is to end does not wait for it.
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)
    failures = 0
    with contextlib.suppress(OSError, ValueError, KeyError):
        failures = int(json.loads(pathlib.Path(state, f"{who}.json").read_text(encoding="utf-8"))["failures"])
    pid = os.getpid()
    say(state, who, {"pid": pid, "loaded": False, "failures": failures, "error": ""})
    try:
        with _first(state):
            app = find(reference)
    except BaseException as error:  # noqa: BLE001  apps end themselves in many ways
        traceback.print_exc()
        reason = "".join(traceback.format_exception_only(error)).strip()[:1000]
        say(state, who, {"pid": pid, "loaded": False, "failures": failures + 1, "error": reason})
        pause = PAUSES_S[min(failures, len(PAUSES_S) - 1)]
        log(f"worker {who} could not load the app; it tries again in {pause:.0f} s")
        time.sleep(pause)
        # Not uWSGI's exit status for a missing app, which ends all workers.
        os._exit(1)
    say(state, who, {"pid": pid, "loaded": True, "failures": 0, "error": ""})
    return app


@contextlib.contextmanager
def _first(state: str) -> Iterator[None]:
    """Wait for the worker that loads the app first in a slot, unless one has loaded it before; the others load it at the same time then."""
    try:
        file = pathlib.Path(state, "first").open("ab", buffering=0)  # noqa: SIM115  the with statement below closes it
    except OSError:  # such as no room: an app that is loaded by all at once is better than none
        yield
        return
    with file:
        # POSIX's lock: what the app forks does not have it, and it ends with the worker.
        fcntl.lockf(file, fcntl.LOCK_EX)
        alone = os.fstat(file.fileno()).st_size == 0
        if not alone:
            fcntl.lockf(file, fcntl.LOCK_UN)
        yield
        if alone:
            with contextlib.suppress(OSError):
                file.write(b"loaded\n")


class Answer:
    """An app's answer on its way to uWSGI."""

    __slots__ = ("_each", "close", "end", "left", "result", "whole")

    def __init__(self, end: Callable[[], None]) -> None:
        """Take what to do when it has ended."""
        self.end = end
        self.result: Iterable[bytes] = ()
        self.left = 0  # bytes that the app has announced and not given yet
        self.whole = False
        self._each: Callable[[], bytes] | None = None
        self.close = self.ended

    def __iter__(self) -> Iterator[bytes]:
        """Begin."""
        self._each = iter(self.result).__next__
        return self

    def __next__(self) -> bytes:
        """Give the next piece."""
        try:
            piece = self._each()  # type: ignore[misc]  # uWSGI has called __iter__
        except StopIteration:
            self.whole = self.left <= 0
            raise
        self.left -= len(piece)
        return piece

    def ended(self) -> None:
        """Called by uWSGI when it has what the app gave, or something broke: the app, or the way to NGINX."""
        if not self.whole:
            cut()
        try:
            close = getattr(self.result, "close", None)
            if close is not None:
                close()
        finally:
            self.end()


class Watched:
    """The app, with its requests noted and its answers whole or visibly broken."""

    def __init__(self, app: App, rows: mmap.mmap, request_s: float, stream_s: float) -> None:
        """Take the app, the table of deadlines, and seconds for a request and for an answer that is an event stream."""
        self.app, self.rows, self.request_s, self.stream_s = app, rows, request_s, stream_s
        self.pid = self.first = 0

    def __call__(self, environ: dict[str, Any], start: Start) -> Iterable[bytes]:
        """Hand a request to the app."""
        if self.pid != os.getpid():
            self._begin()
        place = self.first + environ.get("uwsgi.core", 0) * ROW.size
        limit = environ.pop("PRAETOR_REQUEST_S", None)
        pid, rows, now, pack = self.pid, self.rows, time.monotonic(), ROW.pack_into
        pack(rows, place, pid, now + (float(limit) if limit else self.request_s))
        # NGINX says nothing of it; some apps want the empty one too, which the gate has always sent.
        environ.setdefault("SCRIPT_NAME", "")
        length = environ.get("CONTENT_LENGTH")
        if length and length != "0":
            environ["wsgi.input"] = taken(environ["wsgi.input"], int(length))
        bare = environ["REQUEST_METHOD"] == "HEAD"
        answer = Answer(lambda: pack(rows, place, pid, 0.0))

        def begin(status: str, headers: Headers, *rest: Any) -> Write:
            answer.left = 0
            for name, value in headers:
                length = len(name)
                if length == 14 and name.lower() == "content-length" and value.isdigit():
                    # These announce a body that they do not have.
                    answer.left = 0 if bare or status[:3] in {"204", "304"} else int(value)
                elif length == 12 and value[:17] == "text/event-stream" and name.lower() == "content-type":
                    pack(rows, place, pid, now + self.stream_s)
                    # For NGINX, which takes it off the answer again.
                    headers = [*headers, ("X-Accel-Buffering", "no")]
            write = start(status, headers, *rest)

            def counted(piece: bytes) -> object:
                answer.left -= len(piece)
                return write(piece)

            return counted

        try:
            result = self.app(environ, begin)
        except BaseException:
            cut()
            answer.end()
            raise
        # uWSGI takes these whole, and so do its users.
        answer.result = [bytes(result)] if isinstance(result, (bytes, bytearray, memoryview)) else result
        return answer

    def _begin(self) -> None:
        """In a new worker: what one before it left in the table is no request any more."""
        self.first = (uwsgi.worker_id() - 1) * MOST_THREADS * ROW.size
        for thread in range(MOST_THREADS):
            ROW.pack_into(self.rows, self.first + thread * ROW.size, 0, 0)
        self.pid = os.getpid()


def taken(body: IO[bytes], length: int) -> IO[bytes]:
    """A request's body, read to its end: NGINX sends no more of it once an answer has begun."""
    found: IO[bytes] = io.BytesIO() if length <= IN_MEMORY else tempfile.TemporaryFile()  # noqa: SIM115  the app has it
    while piece := body.read(READ):
        found.write(piece)
    found.seek(0)
    # After the body comes a record that ends it. uWSGI reads it before it ends the answer, and would wait for it in vain once NGINX has the answer's
    # beginning. Nothing but this reads on; it finds no chunk. Twice, for a record that came in two pieces.
    for _ in range(2):
        with contextlib.suppress(OSError):
            uwsgi.chunked_read()
    return found


def cut() -> None:
    """Let nothing more of this answer out: an end mark after half of it would make it look whole."""
    with contextlib.suppress(OSError), socket.socket(fileno=os.dup(uwsgi.connection_fd())) as connection:
        connection.shutdown(socket.SHUT_RDWR)
