"""What makes backups of databases and restores them: what it refuses before anything is touched."""

from __future__ import annotations

import importlib.machinery
import shutil
import subprocess
import types
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from project import ROOT

FULL = {"label": "F", "timestamp": {"stop": 1000}, "info": {"size": 500_000_000}}
NEXT = {"label": "D", "timestamp": {"stop": 2000}, "info": {"size": 600_000_000}}


def script(name: str) -> Any:
    """Load a program of the role."""
    loader = importlib.machinery.SourceFileLoader(name.replace("-", "_"), str(ROOT / "roles/pgbackrest/files" / name))
    module = types.ModuleType(loader.name)
    loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def restore() -> Any:
    return script("database-restore")


def at(second: int) -> datetime:
    """Return a time as seconds since 1970."""
    return datetime.fromtimestamp(second, UTC)


@pytest.mark.parametrize(("to", "begins_with"), [(None, "D"), (at(5000), "D"), (at(2000), "D"), (at(1999), "F")])
def test_a_restore_begins_with_the_newest_backup_that_had_ended(
    restore: Any, to: datetime | None, begins_with: str
) -> None:
    assert restore.fits(to, [FULL, NEXT])["label"] == begins_with


def test_a_time_before_the_first_backup_had_ended_is_refused(restore: Any) -> None:
    with pytest.raises(restore.RestoreError, match=r"found 1970-01-01 00:16:39\+0000, expected 1970-01-01 00:16:40"):
        restore.fits(at(999), [FULL, NEXT])


@pytest.mark.parametrize(
    ("message", "said"),
    [
        # As pgBackRest 2.45 and 2.55 say it of a repository: with another passphrase, without its disk, before the first backup.
        (
            "[FormatError] unable to load info file: key/value found outside of section at line 1: \ufffd*",
            "another passphrase",
        ),
        ("[CryptoError] unable to load info file: CryptoError: unable to flush", "another passphrase"),
        ("missing stanza path", "is the disk of /var/lib/pgbackrest on the backup host mounted?"),
        (
            "no valid backups",
            "(no valid backups no valid backups): on the backup host type systemctl start pgbackrest@full",
        ),
    ],
)
def test_a_repository_without_a_backup_says_why(restore: Any, message: str, said: str) -> None:
    stanza = {"status": {"message": message}, "repo": [{"status": {"message": message}}], "backup": []}
    assert said in restore.why_none([stanza])


def test_what_pgbackrest_says_of_a_wrong_passphrase_may_hold_control_characters(
    restore: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = '[{"status": {"message": "[FormatError] at line 1: \x01\x1f"}, "repo": [], "backup": []}]'
    monkeypatch.setattr(restore, "pgbackrest", lambda *_: said)
    with pytest.raises(restore.RestoreError, match="another passphrase"):
        restore.backups()


def test_what_a_program_writes_need_not_be_text(restore: Any) -> None:
    assert restore.run("/bin/sh", "-c", r"printf 'a\202b'") == "a\ufffdb"


@pytest.mark.parametrize("text", ["yesterday", "2026-13-01", "03:00", "2026-11-25 25:00", "0", "now"])
def test_what_is_no_time_is_refused(restore: Any, text: str) -> None:
    with pytest.raises(restore.RestoreError, match="expected a time such as"):
        restore.moment(text, at(10_000))


@pytest.mark.parametrize(("text", "second"), [("1970-01-01 01:00", 3600), ("1970-01-01T01:00:00+01:00", 0)])
def test_a_time_without_a_zone_is_utc(restore: Any, text: str, second: int) -> None:
    assert restore.moment(text, at(10_000)) == at(second)


def test_a_time_that_is_not_over_is_refused(restore: Any) -> None:
    with pytest.raises(restore.RestoreError, match="which is not over yet; expected a time before"):
        restore.moment("1970-01-01 04:00", at(10_000))


@pytest.mark.parametrize(("free_mb", "given_up_mb", "fits"), [(700, 0, True), (500, 0, False), (500, 200, True)])
def test_a_disk_without_room_is_found_out_before_anything_is_removed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, restore: Any, free_mb: int, given_up_mb: int, *, fits: bool
) -> None:
    free = free_mb * 1_000_000
    monkeypatch.setattr(shutil, "disk_usage", lambda _: types.SimpleNamespace(free=free))
    if fits:
        restore.room(tmp_path / "restored/data", NEXT, given_up_mb * 1_000_000)
        return
    with pytest.raises(restore.RestoreError, match=f"{tmp_path} has no room: the backup D takes 600 MB .* 500 MB are"):
        restore.room(tmp_path / "restored/data", NEXT, given_up_mb * 1_000_000)


def test_what_a_directory_takes_is_what_its_files_take(tmp_path: Path, restore: Any) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "base/1").write_bytes(b"x" * 100_000)
    (tmp_path / "base/2").symlink_to("/usr")
    assert 100_000 <= restore.taken(tmp_path) < 120_000
    assert restore.taken(tmp_path / "missing") == 0


@pytest.fixture
def backup(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Return the program with a repository in a scratch directory; what it runs does nothing."""
    found = script("database-backup")
    found.REPOSITORY, found.MADE = tmp_path / "repository", tmp_path / "made"
    found.REPOSITORY.mkdir()
    done = subprocess.CompletedProcess[str]([], 0, stdout='[{"backup": [1]}]')
    monkeypatch.setattr(found, "pgbackrest", lambda *_: done)
    return found


def test_no_repository_is_made_where_one_has_gone(backup: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert backup.first() == 0
    assert backup.first() == 1
    assert "had backups and has none now" in capsys.readouterr().err
    backup.MADE.unlink()
    assert backup.first() == 0


def test_a_repository_that_is_there_is_used(backup: Any) -> None:
    info = backup.REPOSITORY / "backup/main/backup.info"
    info.parent.mkdir(parents=True)
    info.touch()
    assert [backup.first(), backup.first()] == [0, 0]


def test_what_this_hosts_versions_cannot_start_is_not_restored(restore: Any) -> None:
    stanza = {"db": [{"id": 1, "version": "15"}, {"id": 2, "version": "17"}]}
    old, new = ({**FULL, "version": restore.of_version(stanza, {"database": {"id": number}})} for number in (1, 2))
    assert restore.startable(new, ["17"]) == "17"
    assert restore.startable(old, ["15", "17"]) == "15"
    with pytest.raises(restore.RestoreError, match="the databases were PostgreSQL 15 then, and this host has 17"):
        restore.startable(old, ["17"])


@pytest.mark.parametrize(
    ("stored", "goes_on"), [(["15"], True), (["15", "17"], False), (["17"], False), ([], False), (["9.6"], True)]
)
def test_only_a_repository_of_an_earlier_version_goes_on_with_another_database(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, stored: list[str], *, goes_on: bool
) -> None:
    backup = script("database-backup")
    monkeypatch.setattr(backup, "SERVERS", tmp_path)
    for name in ("15", "17"):
        (tmp_path / name).mkdir()
    assert backup.is_of_earlier_version({"db": [{"id": 1, "version": one} for one in stored]}) is goes_on
