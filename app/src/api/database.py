"""The database: connections that are opened after fork, bounded by the request's deadline, checked with a timeout."""

import math
import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, ProgrammingError, TimeoutError  # noqa: A004
from sqlalchemy.orm import Session

from api import context
from api.config.model import Database as Settings
from api.migrations import HEAD

_QUERY_CANCELED = "57014"  # PostgreSQL's SQLSTATE of a statement that ran into statement_timeout


class UnavailableError(Exception):
    """The database cannot be reached or refuses to work."""


@dataclass
class _Engines:
    pid: int
    reader: Engine
    writer: Engine


class Database:
    """One database. Made before uWSGI forks; each process opens connections of its own at its first use."""

    def __init__(self, settings: Settings, data_dir: Path, deadline_s: float) -> None:
        self._settings = settings
        self._deadline_s = deadline_s
        self._url = url(settings, data_dir)
        self._lock = threading.Lock()
        self._engines: _Engines | None = None
        self._probe: _Probe | None = None

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A transaction that only reads. Raises UnavailableError or context.DeadlineExceededError."""
        with self._transaction(self._own().reader) as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A transaction that may write, committed at the end unless an exception passes. Raises as `read` does."""
        with self._transaction(self._own().writer) as session:
            yield session

    def close(self) -> None:
        """Close the connections of this process."""
        with self._lock:
            if self._engines and self._engines.pid == os.getpid():
                self._engines.reader.dispose()
            self._engines = None

    def unready(self) -> str | None:
        """Why the database cannot be used, None if it can. Answers within `ready_timeout_s`, whatever it does."""
        with self._lock:
            probe = self._probe
            if probe is None or probe.pid != os.getpid() or probe.done.is_set():
                probe = self._probe = _Probe(self)
        # While one probe hangs, all callers wait for that one: no pile of threads behind a database that is silent.
        if not probe.done.wait(self._settings.ready_timeout_s):
            return f"no answer within {self._settings.ready_timeout_s:g} s"
        return probe.reason

    def look(self) -> str | None:
        """As `unready`, without its own timeout."""
        try:
            with self.read() as session:
                found = session.execute(text("SELECT version_num FROM alembic_version")).scalar()
        except UnavailableError as error:
            return str(error.__cause__).splitlines()[0]
        except DBAPIError:
            found = None
        # A later schema is fine: this release may be the old one of a rollout, or one that was rolled back to.
        if found is None or found < HEAD:
            return f"schema {found or 'none'}, needs {HEAD}: run python -m api.migrate"
        return None

    @contextmanager
    def _transaction(self, engine: Engine) -> Iterator[Session]:
        try:
            with Session(engine) as session, session.begin():
                yield session
        except (DBAPIError, TimeoutError) as error:
            if _is_timeout(error):
                raise context.DeadlineExceededError from error
            if _is_ours(error):
                raise
            raise UnavailableError from error

    def _own(self) -> _Engines:
        engines = self._engines
        if engines is None or engines.pid != os.getpid():
            with self._lock:
                engines = self._engines
                if engines is None or engines.pid != os.getpid():
                    # The engine of the process that forked us is left alone: its connections are not ours to close.
                    engine = connect(self._url, self._settings, self._deadline_s)
                    engines = self._engines = _Engines(os.getpid(), engine, engine.execution_options(write=True))
        return engines


class _Probe:
    """One look at the database in a thread of its own, because nothing else ends a wait for a server that is silent."""

    def __init__(self, database: Database) -> None:
        self.pid = os.getpid()
        self.done = threading.Event()
        self.reason: str | None = None
        self._database = database
        threading.Thread(target=self._run, name="database-probe", daemon=True).start()

    def _run(self) -> None:
        try:
            self.reason = self._database.look()
        except Exception as error:
            self.reason = type(error).__name__
            raise
        finally:
            self.done.set()


def url(settings: Settings, data_dir: Path) -> URL:
    """The URL with its password, and for SQLite with the whole path of the file."""
    found = make_url(settings.url)
    if found.drivername == "sqlite":
        return found.set(database=str(data_dir / (found.database or "items.db")))
    return found.set(password=settings.password.get_secret_value()) if settings.password else found


def connect(target: URL, settings: Settings, deadline_s: float) -> Engine:
    """An engine whose transactions end with the request's deadline, or after `deadline_s` outside of a request."""
    if target.drivername == "sqlite":
        engine = create_engine(target)
        event.listen(engine, "connect", _prepare_sqlite)
    else:
        engine = create_engine(
            target,
            pool_size=settings.pool_size,
            max_overflow=0,
            pool_timeout=deadline_s,
            pool_pre_ping=True,  # a restarted server costs no request
            connect_args={"connect_timeout": settings.connect_timeout_s},
        )

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        milliseconds = math.ceil(context.remaining_s(deadline_s) * 1000)
        if target.drivername == "sqlite":
            connection.exec_driver_sql(f"PRAGMA busy_timeout = {milliseconds}")
            # A reader that becomes a writer fails at once if another one writes, so a writer says so at its start.
            write = connection.get_execution_options().get("write", False)
            connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")
        else:
            connection.exec_driver_sql(f"SET LOCAL statement_timeout = {milliseconds}")

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


def _is_timeout(error: Exception) -> bool:
    if isinstance(error, TimeoutError):
        return True
    cause = error.orig if isinstance(error, DBAPIError) else None
    if isinstance(cause, sqlite3.OperationalError):
        return cause.sqlite_errorcode in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_INTERRUPT}
    return getattr(cause, "sqlstate", None) == _QUERY_CANCELED


def _is_ours(error: Exception) -> bool:
    """Whether the statement was wrong, and not the database. To SQLite a missing table is an operational matter."""
    return isinstance(error, (ProgrammingError, IntegrityError, DataError)) or "no such table" in str(error)
