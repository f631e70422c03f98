import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from alembic import command, op
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import create_engine, text

from api import migrate, migrations
from api.config import load
from api.database import url
from api.domain.tables import Base

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
