"""Alembic's entry: connects to the configured database and runs the missing migrations in one transaction."""

from typing import TYPE_CHECKING

from alembic import context
from sqlalchemy import create_engine, text

from api import database
from api.domain.tables import Base

if TYPE_CHECKING:
    from api.config import Loaded

# Any number, the same in every process: two migrations of one database wait for each other.
LOCK = 4_110_285


def run() -> None:
    """Run the migrations that `python -m api.migrate` asked for."""
    loaded: Loaded = context.config.attributes["loaded"]
    engine = create_engine(database.url(loaded.settings.database, loaded.identity.data_dir))
    with engine.connect() as connection:
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql("PRAGMA journal_mode = WAL")  # readers do not wait for writers; kept in the file
            connection.rollback()
        context.configure(connection=connection, target_metadata=Base.metadata, transaction_per_migration=False)
        with context.begin_transaction():
            if connection.dialect.name == "postgresql":
                connection.execute(text(f"SELECT pg_advisory_xact_lock({LOCK})"))
            context.run_migrations()
    engine.dispose()


run()
