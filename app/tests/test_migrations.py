import fcntl
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from alembic import command, op
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.operations import Operations
from flask import Flask
from sqlalchemy import create_engine, text

from api import migrate, migrations
from api.config import Loaded, load
from api.database import url
from api.domain.tables import Base
from conftest import Postgres, until

VERSIONS = sorted((Path(migrations.__file__).parent / "versions").glob("*.py"))


def test_migrations_lead_to_the_tables_of_the_code(environ: dict[str, str]) -> None:
    assert migrate.main() == 0
    loaded = load(environ)
    engine = create_engine(url(loaded.settings.database, loaded.identity.data_dir))
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
        found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    engine.dispose()
    assert found == migrations.HEAD


def test_second_run_changes_nothing_and_both_write_only_json_to_stderr(
    environ: dict[str, str], capfd: pytest.CaptureFixture[str]
) -> None:
    assert migrate.main() == 0
    assert migrate.main() == 0
    out, err = capfd.readouterr()
    assert out == ""
    assert all(line.startswith("{") for line in err.splitlines())


def test_two_at_once_wait_for_each_other(environ: dict[str, str]) -> None:
    Path(environ["APP_DATA_DIR"]).mkdir(exist_ok=True)
    arguments = [sys.executable, "-m", "api.migrate"]
    both = [subprocess.Popen(arguments, env=os.environ | environ, stderr=subprocess.PIPE) for _ in range(2)]
    ends = [(process.communicate()[1].decode(), process.returncode) for process in both]
    assert [code for _, code in ends] == [0, 0], ends


def test_refused_configuration_stops_it(
    base: dict[str, str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("API_X", "1")
    assert migrate.main() == 1
    assert capsys.readouterr().err == "environment API_X: unknown setting\n"


def test_downgrade_leaves_no_table(environ: dict[str, str]) -> None:
    assert migrate.main() == 0
    loaded = load(environ)
    command.downgrade(migrate.configure(loaded), "base")
    engine = create_engine(url(loaded.settings.database, loaded.identity.data_dir))
    with engine.connect() as connection:
        assert not any(engine.dialect.has_table(connection, name) for name in Base.metadata.tables)
    engine.dispose()


def test_migrations_are_numbered_as_their_order_says() -> None:
    revisions = [
        re.search(r'^revision = "(\d{4})"\ndown_revision = (?:None|"(\d{4})")$', path.read_text(), re.MULTILINE)
        for path in VERSIONS
    ]
    numbers = [match[1] for match in revisions if match]
    assert numbers == [path.name[:4] for path in VERSIONS]
    assert [match[2] for match in revisions if match] == [None, *numbers[:-1]]
    assert numbers[-1] == migrations.HEAD


def test_migration_that_breaks_off_leaves_nothing(environ: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []

    def create_table(name: str, *columns: Any, **options: Any) -> Any:
        if made:
            raise ZeroDivisionError
        made.append(name)
        return Operations(op.get_context()).create_table(name, *columns, **options)

    monkeypatch.setattr("alembic.op.create_table", create_table)
    with pytest.raises(ZeroDivisionError):
        migrate.main()
    assert made == ["items"]
    monkeypatch.undo()
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert migrate.main() == 0


@pytest.fixture
def more_migrations(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], None]:
    """Adds a migration to those of the app; its work is one statement, in a transaction unless it says CONCURRENTLY."""
    folder = tmp_path / "versions"
    folder.mkdir()
    configure = migrate.configure

    def configured(*arguments: Any) -> Config:
        config = configure(*arguments)
        config.set_main_option("version_locations", os.pathsep.join([str(VERSIONS[0].parent), str(folder)]))
        return config

    def add(statement: str) -> None:
        head = f'revision = "9000"\ndown_revision = "{migrations.HEAD}"\nbranch_labels = None\ndepends_on = None\n'
        work = f"def upgrade():\n    op.execute({statement!r})\n"
        if "CONCURRENTLY" in statement:
            work = work.replace("    op.", "    with op.get_context().autocommit_block():\n        op.")
        (folder / "9000_more.py").write_text(f"from alembic import op\n\n{head}\n{work}")

    monkeypatch.setattr(migrate, "configure", configured)
    return add


@contextmanager
def reading(environ: dict[str, str]) -> Iterator[psycopg.Connection[Any]]:
    """A transaction that has read the items and goes on, as a backup or a report does."""
    url = environ["API_DATABASE__URL"].replace("+psycopg", "")
    with psycopg.connect(url, application_name="nightly report") as connection:
        connection.execute("SELECT count(*) FROM items")
        yield connection


def events(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


WIDER = "ALTER TABLE items ADD COLUMN colour text"
ON_POSTGRESQL = pytest.mark.parametrize(
    "kind", [pytest.param("postgresql", marks=pytest.mark.postgresql)], indirect=True
)


@ON_POSTGRESQL
def test_migration_that_waits_for_a_lock_stops_no_request(
    environ: dict[str, str],
    make_app: Callable[[Loaded], Flask],
    more_migrations: Callable[[str], None],
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert migrate.main() == 0
    more_migrations(WIDER)
    old = make_app(load(environ | {"API_HTTP__DEADLINE_S": "4"}))
    answers: list[tuple[int, float]] = []

    def ask(seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            started = time.monotonic()
            client = old.test_client()
            status = client.post("/items", json={"name": f"n{len(answers)}", "kind": "tool"}).status_code
            answers.append((status, time.monotonic() - started))
            time.sleep(0.05)

    ask(1)
    alone_s = max(seconds for _, seconds in answers)
    with ThreadPoolExecutor(1) as pool:
        with reading(environ) as reader:
            migration = pool.submit(migrate.main)
            ask(7)
            assert not migration.done()
            holder = reader.info.backend_pid
        assert migration.result(120) == 0
    assert {status for status, _ in answers} == {201}
    # Half a second is what a migration waits for a lock; the rest is for a machine with a lot to do.
    assert max(seconds for _, seconds in answers) < 0.5 + 1.5 + 5 * alone_s
    assert old.test_client().get("/items").status_code == 200
    waits = [event for event in events(capfd.readouterr().err) if "waits" in event["message"]]
    assert waits
    assert waits[0]["waits_for"] == ["items (AccessExclusiveLock)"]
    (held,) = waits[0]["held_by"]
    assert held.startswith(f"process {holder} of user api, nightly report, idle in transaction")
    assert waits[0]["to_end_them"] == f"SELECT pg_terminate_backend({holder});"


@ON_POSTGRESQL
def test_index_that_is_made_concurrently_waits_for_readers_as_long_as_they_need(
    environ: dict[str, str], more_migrations: Callable[[str], None]
) -> None:
    assert migrate.main() == 0
    more_migrations("CREATE INDEX CONCURRENTLY by_note ON items (note)")
    with psycopg.connect(environ["API_DATABASE__URL"].replace("+psycopg", "")) as snapshot:
        snapshot.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        snapshot.execute("SELECT count(*) FROM items")
        with ThreadPoolExecutor(1) as pool:
            migration = pool.submit(migrate.main)
            time.sleep(1.5)  # longer than a migration waits for a lock of a table
            assert not migration.done()
            snapshot.commit()
            assert migration.result(120) == 0
        row = snapshot.execute("SELECT indisvalid FROM pg_index WHERE indexrelid = 'by_note'::regclass").fetchone()
    assert row == (True,)


@ON_POSTGRESQL
def test_migration_gives_up_in_time_and_says_who_holds_what(
    environ: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    more_migrations: Callable[[str], None],
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert migrate.main() == 0
    more_migrations(WIDER)
    monkeypatch.setenv("API_DATABASE__MIGRATION_S", "3")
    with reading(environ):
        assert migrate.main() == 1
    last = events(capfd.readouterr().err)[-1]
    assert (last["level"], last["reason"]) == ("critical", "not done within 3 s")
    assert last["waits_for"] == ["items (AccessExclusiveLock)"]
    assert "nightly report" in last["held_by"][0]


@ON_POSTGRESQL
def test_migration_has_limits_of_its_own_and_not_those_of_its_role(
    environ: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    more_migrations: Callable[[str], None],
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert migrate.main() == 0
    more_migrations("SELECT pg_sleep(2.5)")
    with psycopg.connect(environ["API_DATABASE__URL"].replace("+psycopg", ""), autocommit=True) as connection:
        name = connection.info.dbname
        connection.execute(f"ALTER DATABASE {name} SET statement_timeout = '100ms'".encode())
    monkeypatch.setenv("API_DATABASE__MIGRATION_S", "1")
    assert migrate.main() == 1
    assert events(capfd.readouterr().err)[-1]["reason"] == "not done within 1 s"
    monkeypatch.setenv("API_DATABASE__MIGRATION_S", "60")
    assert migrate.main() == 0


def test_migration_connects_with_a_limit(base: dict[str, str], capfd: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgresql+psycopg://api@127.0.0.1:{silent.getsockname()[1]}/api"
        more = {"API_DATABASE__URL": url, "API_DATABASE__CONNECT_TIMEOUT_S": "2"}
        command = [sys.executable, "-m", "api.migrate"]
        done = subprocess.run(command, env=os.environ | base | more, capture_output=True, timeout=120, check=False)
    assert done.returncode == 1
    (event,) = events(done.stderr.decode())
    assert event["message"] == "migration failed; the running release goes on serving"
    assert "timeout" in event["reason"]


@ON_POSTGRESQL
def test_migration_ends_when_the_database_falls_silent(
    environ: dict[str, str],
    postgres: Postgres,
    monkeypatch: pytest.MonkeyPatch,
    more_migrations: Callable[[str], None],
) -> None:
    assert migrate.main() == 0
    more_migrations("SELECT pg_sleep(60)")
    monkeypatch.setenv("API_DATABASE__MIGRATION_S", "2")
    with ThreadPoolExecutor(1) as pool:
        migration = pool.submit(migrate.main)
        with psycopg.connect(environ["API_DATABASE__URL"].replace("+psycopg", ""), autocommit=True) as connection:
            found: list[int] = []

            def asleep() -> bool:
                query = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()"
                found[:] = [pid for (pid,) in connection.execute(query).fetchall()]
                return bool(found)

            until(asleep, "the migration works")
            os.kill(found[0], signal.SIGSTOP)
            try:
                assert migration.result(120) == 1
            finally:
                os.kill(found[0], signal.SIGCONT)


def test_migration_of_a_file_waits_for_another_one_with_a_limit(
    base: dict[str, str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert migrate.main() == 0
    monkeypatch.setenv("API_DATABASE__MIGRATION_S", "1")
    with Path(base["APP_DATA_DIR"], "items.db.migration").open("w") as other, ThreadPoolExecutor(1) as pool:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert pool.submit(migrate.main).result(120) == 1
    assert events(capfd.readouterr().err)[-1]["reason"] == "another migration has not ended within 1 s"
    assert migrate.main() == 0
