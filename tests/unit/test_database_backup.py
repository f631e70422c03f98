"""What makes backups of databases and restores them: what it refuses before anything is touched."""

from __future__ import annotations

import importlib.machinery
import json
import shutil
import subprocess
import time
import types
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from project import ROOT

from praetor.run import databases

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
        # As 2.45 says it of a backup host with another.
        (
            "[ProtocolError] expected value '2.45' for greeting key 'version' but got '2.55.1'\nHINT: is the same version of pgBackRest installed",
            "pgBackRest is 2.45 on this host and 2.55.1 on the backup host",
        ),
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
    monkeypatch.setattr(restore, "pgbackrest", lambda *_, **__: said)
    monkeypatch.setattr(restore, "repositories", lambda _: [1])
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
    found.REPOSITORY, found.MADE, found.MADE_S3 = tmp_path / "repository", tmp_path / "made", tmp_path / "made-s3"
    found.REPOSITORY.mkdir()
    found.CONFIG, found.METRICS = tmp_path / "pgbackrest.conf", tmp_path / "database_backup.prom"
    found.DRILL = tmp_path / "database_drill.prom"
    found.CONFIG.write_text("[global]\nrepo1-path=/var/lib/pgbackrest\n")
    done = subprocess.CompletedProcess[str]([], 0, stdout='[{"backup": [1]}]', stderr="")
    monkeypatch.setattr(found, "pgbackrest", lambda *_, **__: done)
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


def stored(kind: str, stop: int, number: int = 1) -> dict[str, Any]:
    """Return a backup as pgBackRest tells of it."""
    info = {"size": 5, "repository": {"delta": 2}}
    return {
        "label": kind[0].upper(),
        "type": kind,
        "timestamp": {"stop": stop},
        "info": info,
        "database": {"repo-key": number},
    }


class Told:
    """pgBackRest with two repositories: what it was asked, and what it says of each."""

    def __init__(self, *held: list[dict[str, Any]], fails: str = "", gone: int = 0) -> None:
        self.asked: list[tuple[str, ...]] = []
        self.held, self.fails, self.gone = held, fails, gone

    def __call__(self, *argv: str, quiet: bool = False) -> subprocess.CompletedProcess[str]:
        self.asked.append(argv)
        if argv[0] == "info":
            number = int(argv[1].removeprefix("--repo="))
            said = {"message": "missing stanza path" if number == self.gone else "ok"}
            return subprocess.CompletedProcess([], 0, json.dumps([{"backup": self.held[number - 1], "status": said}]))
        return subprocess.CompletedProcess([], 7 * (self.fails in argv), "", "" if quiet else None)


@pytest.fixture
def two(backup: Any) -> Any:
    """Return the program with a second repository on S3-compatible storage."""
    backup.CONFIG.write_text("[global]\nrepo1-path=/var/lib/pgbackrest\nrepo2-type=s3\n")
    return backup


def test_each_repository_gets_each_backup_and_one_that_fails_takes_none_from_the_other(
    two: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = Told([], [], fails="--repo=1")
    monkeypatch.setattr(two, "pgbackrest", told)
    assert two.back_up("diff") == 7
    assert told.asked == [("--repo=1", "--type=diff", "backup"), ("--repo=2", "--type=diff", "backup")]


def test_metrics_tell_of_each_repository_by_itself(two: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    told = Told([stored("full", 10), stored("diff", 30)], [stored("full", 20, 2)])
    monkeypatch.setattr(two, "pgbackrest", told)
    two.tell({"host": True, "s3": False})
    lines = two.METRICS.read_text().splitlines()
    assert 'praetor_database_backup_end_seconds{kind="diff",repository="host"} 30' in lines
    assert 'praetor_database_backup_end_seconds{kind="full",repository="s3"} 20' in lines
    assert 'praetor_database_backups{repository="s3"} 1' in lines
    assert 'praetor_database_backup_verify_failed{repository="host"} 0' in lines
    assert 'praetor_database_backup_verify_failed{repository="s3"} 1' in lines
    two.tell()
    assert sorted(two.METRICS.read_text().splitlines()) == sorted(lines), "what was verified is forgotten"
    # And the storage is given up again.
    two.CONFIG.write_text("[global]\n")
    two.tell()
    assert "s3" not in two.METRICS.read_text()


def test_when_a_verification_last_succeeded_stays_to_be_seen(backup: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backup, "pgbackrest", Told([stored("full", 10)]))
    backup.tell({"host": True})
    [well] = [line for line in backup.METRICS.read_text().splitlines() if "verified_seconds" in line]
    backup.tell({"host": False})
    assert well in backup.METRICS.read_text()


def test_a_bucket_that_had_backups_and_has_none_is_not_begun_again(
    two: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(two, "pgbackrest", Told([stored("full", 10)], []))
    assert two.first() == 0
    (two.REPOSITORY / "backup/main").mkdir(parents=True)
    (two.REPOSITORY / "backup/main/backup.info").touch()
    monkeypatch.setattr(two, "pgbackrest", told := Told([stored("full", 10)], [], gone=2))
    assert two.first() == 1
    assert "the bucket of pgbackrest_s3 had backups and has none now" in capsys.readouterr().err
    assert all(argv[0] == "info" for argv in told.asked)
    two.MADE_S3.unlink()
    assert two.first() == 0
    assert ("--repo=2", "--type=full", "backup") in told.asked


def test_status_tells_of_each_repository(
    two: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(two, "pgbackrest", Told([stored("full", 10)], [stored("full", 20, 2), stored("diff", 25, 2)]))
    two.DRILL.write_text(
        'praetor_database_drill_end_seconds{repository="s3"} 40\npraetor_database_drill_failed{repository="s3"} 1\n'
    )
    assert two.show() == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["backups"], shown["newest"], shown["drill"], shown["drill_failed"]) == (1, 10, 0, False)
    assert shown["s3"] == {"backups": 2, "newest": 25, "full": 20, "drill": 40, "drill_failed": True}
    said = " ".join(databases.notes({}, {"backup1": shown}, 100))
    assert "S3-compatible storage of backup1 has 2 backups, the newest 75 s old" in said
    del shown["s3"]
    assert "S3" not in " ".join(databases.notes({}, {"backup1": shown}, 100))


@pytest.mark.parametrize(("to", "begins_with"), [(None, 1), (at(5000), 1), (at(1500), 2)])
def test_a_restore_begins_in_the_first_repository_that_has_what_fits(
    restore: Any, to: datetime | None, begins_with: int
) -> None:
    kept = [stored("full", 2000), stored("full", 1000, 2), stored("diff", 3000, 2)]
    found = restore.fits(to, kept)
    assert restore.repository(found) == begins_with
    assert restore.named(found) == {1: "F", 2: "F on S3"}[begins_with]


def test_a_drill_of_one_repository_forgets_nothing_of_the_other(
    restore: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(restore, "METRICS", tmp_path / "drill.prom")
    monkeypatch.setattr(restore, "DRILL_CONFIGS", {"host": tmp_path, "s3": tmp_path})
    restore.tell({"end": 10, "seconds": 1, "backup_end": 5, "rows": 3}, "host")
    restore.tell({"error": "no"}, "s3")
    restore.tell({"error": "no"}, "host")
    lines = restore.METRICS.read_text().splitlines()
    assert 'praetor_database_drill_end_seconds{repository="host"} 10' in lines
    assert 'praetor_database_drill_failed{repository="host"} 1' in lines
    assert 'praetor_database_drill_failed{repository="s3"} 1' in lines
    assert len(lines) == len(set(lines))
    # The storage is given up.
    monkeypatch.setattr(restore, "DRILL_CONFIGS", {"host": tmp_path, "s3": tmp_path / "none"})
    restore.tell({"end": 20, "seconds": 1, "backup_end": 5, "rows": 3}, "host")
    lines = restore.METRICS.read_text().splitlines()
    assert not any("s3" in line for line in lines)
    assert 'praetor_database_drill_failed{repository="host"} 0' in lines


def test_a_repository_that_takes_wal_just_now_is_waited_for(backup: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = iter([50, 50, 0])
    told = Told([stored("full", 10)])

    def pgbackrest(*argv: str, quiet: bool = False) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess([], next(ended), "", "") if quiet else told(*argv)

    monkeypatch.setattr(backup, "pgbackrest", pgbackrest)
    monkeypatch.setattr(time, "sleep", lambda _: None)
    assert backup.first() == 0
    assert list(ended) == []


@pytest.mark.parametrize(
    ("complaint", "hint"),
    [
        # As pgBackRest 2.45 says it.
        (
            "ERROR: [039]: HTTP request failed with 403 (FORBIDDEN):\n       *** Path/Query ***:",
            "Look at key and key_secret",
        ),
        ("<Error><Code>NoSuchBucket</Code>", "the storage has no such bucket"),
        (
            "ERROR: [095]: unable to verify certificate presented by 's3.example.com:443': [20] unable to get local issuer certificate",
            "Its authority is what authority_file names",
        ),
        (
            "ERROR: [095]: unable to find hostname 's3.example.com' in certificate common name or subject alternative names",
            "of another name than endpoint says",
        ),
    ],
)
def test_storage_that_refuses_says_where_to_look(
    two: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], complaint: str, hint: str
) -> None:
    monkeypatch.setattr(two, "pgbackrest", lambda *_, **__: subprocess.CompletedProcess([], 39, "[]", complaint))
    assert two.first() == 39
    assert hint in capsys.readouterr().err
    assert not two.MADE_S3.exists()


def test_another_version_on_a_database_host_is_named(
    backup: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # As 2.55.1 says it of a database host with 2.45; what it ends with is about something else.
    complaint = (
        "WARN: unable to check pg1: [ProtocolError] expected value '2.55.1' for greeting key 'version' but got '2.45'\n"
        "ERROR: [056]: unable to find primary cluster - cannot proceed"
    )
    monkeypatch.setattr(backup, "pgbackrest", lambda *_, **__: subprocess.CompletedProcess([], 56, "", complaint))
    assert backup.first() == 56
    assert "pgBackRest is 2.55.1 on this host and 2.45 on a database host" in capsys.readouterr().err


def test_both_versions_of_pgbackrest_complain_where_it_is_read() -> None:
    """On standard error: 2.55 would complain on standard output, among its answers, and nobody would see why a backup failed."""
    for name in ("pgbackrest", "restore"):
        text = (ROOT / f"roles/pgbackrest/templates/{name}.conf.j2").read_text(encoding="utf-8")
        whole = text.partition("[global]")[2].partition("\n[")[0]
        assert "\nlog-level-stderr=warn\n" in whole, name


def test_each_repository_is_asked_by_itself(restore: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    config = tmp_path / "pgbackrest.conf"
    held = {"--repo=1": [stored("full", 10)], "--repo=2": [stored("full", 20, 2)]}
    monkeypatch.setattr(restore, "pgbackrest", lambda *argv, **_: json.dumps([{"backup": held[argv[1]]}]))
    for text, stops in (
        ("[global]\nrepo1-host=backup1\nrepo2-host=backup1\n", [10, 20]),
        ("[global]\nrepo1-path=/var/lib/pgbackrest\n", [10]),
        ("[global]\nrepo2-type=s3\n", [20]),
    ):
        config.write_text(text)
        assert [backup["timestamp"]["stop"] for backup in restore.backups(config)] == stops


def test_storage_that_does_not_answer_is_said_and_its_backups_get_old(
    two: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(two, "pgbackrest", Told([stored("full", 10)], [stored("full", 20, 2)]))
    two.tell({"host": True, "s3": True})
    before = sorted(two.METRICS.read_text().splitlines())

    def away(*argv: str) -> subprocess.CompletedProcess[str]:
        # As pgBackRest 2.45 says it.
        if "--repo=1" in argv:
            return subprocess.CompletedProcess([], 0, json.dumps([{"backup": [stored("full", 10)]}]))
        status = {"code": 99, "message": "[HostConnectError] unable to connect"}
        return subprocess.CompletedProcess([], 0, json.dumps([{"backup": [], "repo": [{"key": 2, "status": status}]}]))

    monkeypatch.setattr(two, "pgbackrest", away)
    two.tell()
    assert sorted(two.METRICS.read_text().splitlines()) == before
    two.show()
    said = " ".join(databases.notes({}, {"backup1": json.loads(capsys.readouterr().out)}, 100))
    assert "backup1 has 1 backup" in said
    assert "S3-compatible storage of backup1 does not say what backups there are" in said
