"""Alembic's entry: connects to the configured database and runs the missing migrations in one transaction."""

import fcntl
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import monotonic, sleep
from typing import TYPE_CHECKING, Any

from alembic import context
from sqlalchemy import URL, Connection, Engine, create_engine, event, text

from api import database
from api.domain.tables import Base
from api.migrations.waiting import Watch

if TYPE_CHECKING:
    from api.migrate import Attempt

# Any number, the same in every process: two migrations of one database wait for each other.
LOCK = 4_110_285


def run() -> None:
    """Run the migrations that `python -m api.migrate` asked for."""
    attempt: Attempt = context.config.attributes["attempt"]
    url = database.url(attempt.loaded.settings.database, attempt.loaded.identity.data_dir)
    with connected(url, attempt) as connection:
        context.configure(connection=connection, target_metadata=Base.metadata, transactional_ddl=True)
        with context.begin_transaction():
            if connection.dialect.name == "postgresql":
                connection.execute(text(f"SELECT pg_advisory_xact_lock({LOCK})"))
            context.run_migrations()


@contextmanager
def connected(url: URL, attempt: "Attempt") -> Iterator[Connection]:
    """A connection; to SQLite one that nobody else has for a migration, whose transactions hold tables too."""
    with ExitStack() as stack:
        if url.drivername == "sqlite":
            engine = sqlite(url, attempt)
            # A lock on a file next to it, because switching to the write-ahead log fails at once where it should wait.
            lock = stack.enter_context(Path(f"{url.database}.migration").open("w"))
            wait_for(lock.fileno(), attempt)
        else:
            engine = postgresql(url, attempt)
        stack.callback(engine.dispose)
        connection = stack.enter_context(engine.connect())
        if url.drivername != "sqlite":
            watch_locks(stack, connection, url, attempt)
        yield connection


def sqlite(url: URL, attempt: "Attempt") -> Engine:
    """An engine whose transactions hold the whole file, and wait for it as long as there is time."""

    def prepare(connection: sqlite3.Connection, _: Any) -> None:
        connection.isolation_level = None  # Python would end the transaction before each change of a table
        connection.execute(f"PRAGMA busy_timeout = {int(attempt.left_s() * 1000)}").close()  # the app may be writing
        connection.execute("PRAGMA journal_mode = WAL").close()  # readers do not wait for writers; kept in the file

    engine = create_engine(url)
    event.listen(engine, "connect", prepare)
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
    return engine


def wait_for(lock: int, attempt: "Attempt") -> None:
    """Take the lock on a file. Raises BlockingIOError when there is no time left."""
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if attempt.left_s() <= 0:
                raise
            sleep(0.05)
        else:
            return


def postgresql(url: URL, attempt: "Attempt") -> Engine:
    """An engine whose statements end in time, and wait for a lock no longer than requests can wait behind them."""
    from api import postgresql as server  # noqa: PLC0415 (SQLite does without it)

    settings = attempt.loaded.settings.database
    engine = create_engine(url, connect_args=server.connect_args(url, settings))

    @event.listens_for(engine, "do_connect")
    def connect(_: object, __: object, arguments: tuple[str, ...], more: dict[str, Any]) -> server.Connection:
        left = attempt.left_s()
        connection = server.connect_within(left, *arguments, **more)
        connection.until = monotonic() + left + 1  # the server's own limit comes first
        connection.execute(f"SET statement_timeout = {max(1, int(left * 1000))}".encode())
        connection.commit()
        return connection

    # For the transaction only: an index that is made CONCURRENTLY, outside of one, may wait without harm to anybody.
    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = {max(1, int(settings.migration_lock_s * 1000))}")

    return engine


def watch_locks(stack: ExitStack, connection: Connection, url: URL, attempt: "Attempt") -> None:
    """Note in `attempt.waits` what the migration has waited for when it ends, and who had it."""
    from api import postgresql as server  # noqa: PLC0415 (SQLite does without it)

    settings = attempt.loaded.settings.database
    own = connection.connection.driver_connection
    if not isinstance(own, server.Connection):
        raise TypeError(f"expected a connection of our own, found {own!r}")

    def connect() -> server.Connection:
        arguments, more = connection.dialect.create_connect_args(url)
        more.update(server.connect_args(url, settings), autocommit=True)
        second = server.connect_within(attempt.left_s(), *arguments, **more)
        second.until = own.until
        return second

    watch = stack.enter_context(Watch(connect, own.info.backend_pid, settings.migration_lock_s / 4))
    stack.callback(lambda: attempt.waits.extend(watch.found))


run()
