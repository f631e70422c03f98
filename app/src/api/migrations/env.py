"""Alembic's entry: connects to the configured database and runs the missing migrations in one transaction."""

import fcntl
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alembic import context
from sqlalchemy import URL, Connection, create_engine, event, text

from api import database
from api.domain.tables import Base

if TYPE_CHECKING:
    from api.config import Loaded

# Any number, the same in every process: two migrations of one database wait for each other.
LOCK = 4_110_285


def run() -> None:
    """Run the migrations that `python -m api.migrate` asked for."""
    loaded: Loaded = context.config.attributes["loaded"]
    url = database.url(loaded.settings.database, loaded.identity.data_dir)
    with connected(url) as connection:
        context.configure(connection=connection, target_metadata=Base.metadata, transactional_ddl=True)
        with context.begin_transaction():
            if connection.dialect.name == "postgresql":
                connection.execute(text(f"SELECT pg_advisory_xact_lock({LOCK})"))
            context.run_migrations()


@contextmanager
def connected(url: URL) -> Iterator[Connection]:
    """A connection; to SQLite one that nobody else has for a migration, whose transactions hold tables too."""
    engine = create_engine(url)
    with ExitStack() as stack:
        stack.callback(engine.dispose)
        if url.drivername == "sqlite":
            event.listen(engine, "connect", _prepare_sqlite)
            event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN IMMEDIATE"))
            # A lock beside the file, because switching to the write-ahead log fails at once where it should wait.
            lock = stack.enter_context(Path(f"{url.database}.migration").open("w"))
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield stack.enter_context(engine.connect())


def _prepare_sqlite(connection: sqlite3.Connection, _: Any) -> None:
    connection.isolation_level = None  # Python would end the transaction before each change of a table
    connection.execute("PRAGMA busy_timeout = 60000").close()  # the app may be writing
    connection.execute("PRAGMA journal_mode = WAL").close()  # readers do not wait for writers; kept in the file


run()
