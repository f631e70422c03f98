"""What stores files and brings them back: SQLite files are whole, links lead nowhere, a swap can be interrupted."""

from __future__ import annotations

import importlib.machinery
import os
import sqlite3
import stat
import threading
import types
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import restored_files
from project import ROOT


@pytest.fixture(scope="module")
def backup() -> Any:
    loader = importlib.machinery.SourceFileLoader("files_backup", str(ROOT / "roles/files_backup/files/files-backup"))
    module = types.ModuleType(loader.name)
    loader.exec_module(module)
    return module


def test_a_busy_sqlite_file_is_copied_whole(backup: Any, tmp_path: Path) -> None:
    source, end = tmp_path / "notes.db", threading.Event()
    with closing(sqlite3.connect(source, isolation_level=None)) as file:
        file.execute("pragma journal_mode=wal")
        # Of each pair both are there or none.
        file.execute("create table notes (n integer primary key, pair integer)")

    written = [0]

    def write() -> None:
        with closing(sqlite3.connect(source, timeout=30, isolation_level=None)) as own:
            while not end.is_set():
                own.execute("begin immediate")
                own.execute("insert into notes (pair) values (?)", [written[0]])
                own.execute("insert into notes (pair) values (?)", [written[0]])
                own.execute("commit")
                written[0] += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        while written[0] < 20:
            pass
        before = written[0]
        backup.copy(str(source), str(tmp_path / "copy.db"))
    finally:
        end.set()
        writer.join()
    with closing(sqlite3.connect(tmp_path / "copy.db")) as copied:
        assert copied.execute("pragma integrity_check").fetchone() == ("ok",)
        counts = [count for (count,) in copied.execute("select count(*) from notes group by pair")]
    assert set(counts) == {2}
    assert len(counts) >= before
    assert sorted(path.name for path in tmp_path.glob("copy.db*")) == ["copy.db"]


def test_the_copy_has_the_mode_of_its_source(backup: Any, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "a.db")) as file:
        file.execute("create table t (n)")
    (tmp_path / "a.db").chmod(0o640)
    backup.copy(str(tmp_path / "a.db"), str(tmp_path / "b.db"))
    assert stat.S_IMODE((tmp_path / "b.db").stat().st_mode) == 0o640


def test_sqlite_files_are_known_by_what_is_in_them_and_links_are_not_followed(backup: Any, tmp_path: Path) -> None:
    inside, outside = tmp_path / "data" / "deep", tmp_path / "outside"
    inside.mkdir(parents=True)
    outside.mkdir()
    for place in (inside / "without-suffix", outside / "other.db"):
        with closing(sqlite3.connect(place)) as file:
            file.execute("create table t (n)")
    (inside / "notes.db").write_text("not SQLite")
    (inside / "link.db").symlink_to(outside / "other.db")
    (inside / "folder").symlink_to(outside)
    os.mkfifo(inside / "pipe")
    assert backup.databases(tmp_path / "data") == [inside / "without-suffix"]


NAMES = ["2026-11-24T02:30:00Z", "2026-11-25T02:30:00Z", "2026-11-26T02:30:00Z"]


@pytest.mark.parametrize(
    ("to", "found"),
    [
        ("", NAMES[2]),
        ("2026-11-25 03:00", NAMES[1]),
        ("2026-11-25 03:00+01:00", NAMES[0]),
        ("2026-11-25T02:30:00+00:00", NAMES[1]),
        ("2030-01-01", NAMES[2]),
    ],
)
def test_the_newest_copy_that_is_not_younger_is_restored(backup: Any, to: str, found: str) -> None:
    assert backup.chosen(NAMES, to) == found


@pytest.mark.parametrize(
    ("names", "to", "said"),
    [
        (NAMES, "yesterday", "expected a time such as"),
        (NAMES, "2026-11-20", "expected 2026-11-24T02:30:00Z or later"),
        ([], "", "nothing is stored yet"),
    ],
)
def test_a_time_without_a_copy_is_refused(backup: Any, names: list[str], to: str, said: str) -> None:
    with pytest.raises(backup.FilesError, match=said):
        backup.chosen(names, to)


def test_restored_files_take_the_place_of_an_apps_data_and_what_it_had_stays(tmp_path: Path) -> None:
    for name in ("data", "data.restored", "data.before"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "which").write_text(name)
    assert restored_files.swap(tmp_path / "data")
    assert (tmp_path / "data/which").read_text() == "data.restored"
    assert (tmp_path / "data.before/which").read_text() == "data"
    # Again: there is nothing to put in place, and nothing is touched.
    assert not restored_files.swap(tmp_path / "data")
    assert (tmp_path / "data/which").read_text() == "data.restored"


def test_a_swap_that_was_interrupted_goes_on(tmp_path: Path) -> None:
    for name in ("data.restored", "data.before"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "which").write_text(name)
    assert restored_files.swap(tmp_path / "data")
    assert (tmp_path / "data/which").read_text() == "data.restored"
    assert (tmp_path / "data.before/which").read_text() == "data.before"


def test_a_restored_history_is_for_a_host_without_one(tmp_path: Path) -> None:
    assert not restored_files.begin_history(tmp_path)
    restored, history = tmp_path / "history.jsonl.restored", tmp_path / "history.jsonl"
    restored.write_text("before")
    assert restored_files.begin_history(tmp_path)
    restored.write_text("older")
    assert not restored_files.begin_history(tmp_path)
    assert (history.read_text(), restored.exists()) == ("before", False)
