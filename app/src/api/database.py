"""The database: connections that are opened after fork, bounded by the request's deadline, checked with a timeout."""

import logging
import math
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, OperationalError, ProgrammingError
from sqlalchemy.orm import Session

from api import context
from api.config.model import Database as Settings
from api.migrations import HEAD

if TYPE_CHECKING:
    from api.postgresql import Server

_log = logging.getLogger(__name__)

# PostgreSQL's SQLSTATEs: of a statement that took too long, of one that would write where nothing may.
_QUERY_CANCELED = "57014"
_READ_ONLY = "25006"

_PAUSE_S = 1.0  # between two looks at a server that is silent


class UnavailableError(Exception):
    """The database cannot be reached or refuses to work."""


@dataclass
class _Own:
    """What belongs to one process."""

    pid: int
    reader: Engine
    writer: Engine
    distrust: Callable[[], None]
    places: threading.Semaphore | None = None  # as many as there are connections
    probe: "_Probe | None" = None
    silent: bool = False
    silences: int = 0
    told: str | None = None


class Database:
    """One database. Made before uWSGI forks; each process opens its own connections at its first use.

    When the server gives no answer to an attempt to connect, one thread goes on looking at it and everybody else is
    refused at once, until it answers again: else every thread of every worker would wait for it in turn.
    """

    def __init__(self, settings: Settings, data_dir: Path, deadline_s: float) -> None:
        self._settings = settings
        self._deadline_s = deadline_s
        self._url = url(settings, data_dir)
        self._lock = threading.Lock()
        self._current: _Own | None = None
        self._server: type[Server] | None = None
        if self._url.drivername != "sqlite":
            # Here, because it takes 0.2 s that SQLite need not wait for, and now, so that workers share what is loaded.
            from api import postgresql  # noqa: PLC0415

            self._server = postgresql.Server

    def read(self) -> AbstractContextManager[Session]:
        """A transaction that only reads. Raises UnavailableError or context.DeadlineExceededError."""
        own = self._own()
        return self._transaction(own, own.reader)

    def write(self) -> AbstractContextManager[Session]:
        """A transaction that may write, committed at the end unless an exception passes. Raises as `read` does."""
        own = self._own()
        return self._transaction(own, own.writer)

    def close(self) -> None:
        """Close the connections of this process."""
        with self._lock:
            own, self._current = self._current, None
        if own and own.pid == os.getpid():
            own.silent = False
            own.reader.dispose()

    def unready(self) -> str | None:
        """Why the database cannot be used, None if it can, in words for everybody; the log says more.

        Answers within `ready_timeout_s`, whatever the database does.
        """
        own = self._own()
        with self._lock:
            if own.silent:
                return "no answer"
            probe = own.probe
            if probe is None or probe.ended:
                probe = own.probe = _Probe(self, own)
        # While one probe hangs, all callers wait for that one: no pile of threads behind a database that is silent.
        left = probe.started + self._settings.ready_timeout_s - monotonic()
        if not probe.looked.wait(max(0.0, left)):
            return f"no answer within {self._settings.ready_timeout_s:g} s"
        return probe.reason

    def look(self) -> str | None:
        """As `unready`, without its own timeout."""
        own = self._own()
        try:
            # As a writer does on PostgreSQL: not by a session that has stayed read-only where its server has not.
            with self._transaction(own, own.writer if self._server else own.reader, probing=True) as session:
                if self._is_read_only(session):
                    own.distrust()
                    return self._tell(own, "read-only")
                found = session.execute(text("SELECT version_num FROM alembic_version")).scalar()
        except UnavailableError as error:
            return self._tell(own, "unreachable", error)
        except context.DeadlineExceededError as error:
            return self._tell(own, "no answer", error)
        except DBAPIError:
            found = None
        # A later schema is fine: this release may be the old one of a rollout, or one that was rolled back to.
        if found is None or found < HEAD:
            return self._tell(own, f"schema {found or 'none'}, needs {HEAD}: run python -m api.migrate")
        return self._tell(own, None)

    def _is_read_only(self, session: Session) -> bool:
        if self._server:  # "on" on a standby too
            return session.execute(text("SHOW transaction_read_only")).scalar() == "on"
        file = Path(str(self._url.database))
        return file.exists() and not os.access(file, os.W_OK)

    def _tell(self, own: _Own, reason: str | None, error: Exception | None = None) -> str | None:
        """Log what has changed since the last look; whoever asks for readiness, asks every second."""
        if reason != own.told:
            own.told = reason
            if reason:
                _log.error("database not ready", extra={"reason": reason}, exc_info=error)
            else:
                _log.warning("database ready again")
        return reason

    @contextmanager
    def _transaction(self, own: _Own, engine: Engine, *, probing: bool = False) -> Iterator[Session]:
        if own.silent and not probing:
            raise UnavailableError("it was silent a moment ago, and does not answer yet")
        # The pool has a timeout too, but the same for each request, however late that is already.
        if own.places and not own.places.acquire(timeout=context.remaining_s(self._deadline_s)):
            raise context.DeadlineExceededError
        try:
            with Session(engine) as session, session.begin():
                yield session
        except DBAPIError as error:
            if _is_timeout(error):
                raise context.DeadlineExceededError from error
            if _is_ours(error):
                raise
            if _sqlstate(error) == _READ_ONLY:
                own.distrust()
            raise UnavailableError from error
        finally:
            if own.places:
                own.places.release()

    def _own(self) -> _Own:
        own = self._current
        if own is None or own.pid != os.getpid():
            with self._lock:
                own = self._current
                if own is None or own.pid != os.getpid():
                    # Those of the process that forked us are left alone: its connections are not ours to close.
                    own = self._current = self._open()
        return own

    def _open(self) -> _Own:
        if not self._server:
            engine = sqlite(self._url, self._deadline_s)
            return _Own(os.getpid(), engine, engine.execution_options(write=True), distrust=lambda: None)
        limit_s = partial(context.remaining_s, self._deadline_s)
        server = self._server(self._url, self._settings, limit_s, lambda: self._found_silent(own))
        writer = server.engine.execution_options(write=True)
        places = threading.BoundedSemaphore(self._settings.pool_size)
        own = _Own(os.getpid(), server.engine, writer, server.distrust, places)
        return own

    def _found_silent(self, own: _Own) -> None:
        with self._lock:
            own.silent = own is self._current
            own.silences += 1
            if own.silent and (own.probe is None or own.probe.ended):
                own.probe = _Probe(self, own)

    def ends(self, probe: "_Probe", *, silent: bool) -> bool:
        """Whether a probe has seen enough; said under the lock, so that whoever finds silence next starts another."""
        with self._lock:
            probe.own.silent = silent and probe.own is self._current
            probe.ended = not probe.own.silent
            return probe.ended


class _Probe:
    """Looks at the database in a separate thread, again and again as long as the database is silent."""

    def __init__(self, database: Database, own: _Own) -> None:
        self.own = own
        self.started = monotonic()
        self.looked = threading.Event()
        self.ended = False
        self.reason: str | None = None
        self._database = database
        threading.Thread(target=self._run, name="database-probe", daemon=True).start()

    def _run(self) -> None:
        while True:
            silences = self.own.silences
            try:
                self.reason = self._database.look()
            except Exception:  # noqa: BLE001 (whatever it is, it is logged, and who waits is told)
                self.reason = "cannot be looked at"
                _log.exception("the look at the database failed")
            ended = self._database.ends(self, silent=self.own.silences != silences)
            self.looked.set()
            if ended:
                return
            sleep(_PAUSE_S)


def url(settings: Settings, data_dir: Path) -> URL:
    """The URL with its password, and for SQLite with the whole path of the file."""
    found = make_url(settings.url)
    if found.drivername == "sqlite":
        return found.set(database=str(data_dir / (found.database or "items.db")))
    return found.set(password=settings.password.get_secret_value()) if settings.password else found


def sqlite(target: URL, deadline_s: float) -> Engine:
    """An engine whose transactions end with the request's deadline, or after `deadline_s` outside of a request."""
    engine = create_engine(target, max_overflow=-1)  # a connection costs no more than an open file
    event.listen(engine, "connect", _prepare_sqlite)

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        driver = connection.connection.driver_connection
        if not isinstance(driver, sqlite3.Connection):
            raise TypeError(f"expected a connection to SQLite, found {driver!r}")
        # A reader that becomes a writer fails at once if another one writes, so a writer says so at its start.
        begin = "BEGIN IMMEDIATE" if connection.get_execution_options().get("write", False) else "BEGIN"
        try:
            # Past SQLAlchemy, whose part in the two was a third of what an empty transaction costs.
            driver.execute(f"PRAGMA busy_timeout = {math.ceil(context.remaining_s(deadline_s) * 1000)}").close()
            driver.execute(begin).close()
        except sqlite3.Error as error:
            raise OperationalError(begin, None, error) from error

    return engine


def _prepare_sqlite(connection: sqlite3.Connection, _: Any) -> None:
    connection.isolation_level = None  # transactions begin where we say, see `begin`
    # In the write-ahead log, which the migration switches on for good, this loses no committed transaction but to a
    # power failure, and then only the last ones.
    connection.execute("PRAGMA synchronous = NORMAL").close()
    connection.set_progress_handler(_is_late, 10_000)


def _is_late() -> bool:
    request = context.current.get()
    return request is not None and monotonic() > request.deadline


def _sqlstate(error: DBAPIError) -> str | None:
    state: str | None = getattr(error.orig, "sqlstate", None)
    return state


def _is_timeout(error: DBAPIError) -> bool:
    if isinstance(error.orig, sqlite3.OperationalError):
        return error.orig.sqlite_errorcode in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_INTERRUPT}
    return _sqlstate(error) == _QUERY_CANCELED


def _is_ours(error: Exception) -> bool:
    """Whether the statement was wrong, and not the database. To SQLite a missing table is an operational matter."""
    return isinstance(error, (ProgrammingError, IntegrityError, DataError)) or "no such table" in str(error)
