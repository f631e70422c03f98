"""The modules and the guard of database hosts."""

from __future__ import annotations

import importlib.machinery
import re
import socket
import stat
import subprocess
import types
from pathlib import Path
from typing import Any

import kept_passwords
import postgres
import postgresql_objects
import postgresql_switch
import postgresql_upgrade
import pytest
from project import ROOT


@pytest.fixture(scope="module")
def guard() -> Any:
    loader = importlib.machinery.SourceFileLoader("guard", str(ROOT / "roles/postgresql/files/database-guard"))
    module = types.ModuleType(loader.name)
    loader.exec_module(module)
    return module


def test_a_password_becomes_what_postgresql_would_keep_of_it() -> None:
    # Of a PostgreSQL 15: create role r password 'pencil', with this salt.
    kept = postgres.verifier("pencil", b"0123456789abcdef")
    assert kept.startswith("SCRAM-SHA-256$4096:MDEyMzQ1Njc4OWFiY2RlZg==$")
    assert postgres.is_verifier_of(kept, "pencil")
    assert not postgres.is_verifier_of(kept, "pencils")
    assert not postgres.is_verifier_of("md5abc", "pencil")
    assert not postgres.is_verifier_of("", "pencil")


def test_names_and_values_cannot_leave_their_quotes() -> None:
    assert postgres.literal("it's") == "'it''s'"
    assert postgres.name('a"b') == '"a""b"'
    with pytest.raises(postgres.PostgresError):
        postgres.literal("back\\slash")


def test_a_password_is_made_once_and_is_roots_alone(tmp_path: Path) -> None:
    keep = kept_passwords.keep
    first, changed = keep(tmp_path / "kept", {}, ["shop"], dry=False)
    assert changed
    assert len(first["shop"]) == 48
    assert keep(tmp_path / "kept", {}, ["shop"], dry=False) == (first, False)
    assert stat.S_IMODE((tmp_path / "kept/shop").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "kept").stat().st_mode) == 0o700


def test_a_given_password_counts_and_others_stay(tmp_path: Path) -> None:
    keep = kept_passwords.keep
    keep(tmp_path, {"shop": "old", "blog": "b"}, [], dry=False)
    assert keep(tmp_path, {"shop": "new"}, [], dry=True) == ({"shop": "new", "blog": "b"}, True)
    assert (tmp_path / "shop").read_text() == "old"
    assert keep(tmp_path, {"shop": "new"}, [], dry=False) == ({"shop": "new", "blog": "b"}, True)


def test_a_passphrase_is_not_replaced_while_something_was_made_with_it(tmp_path: Path) -> None:
    kept, guarded = tmp_path / "kept", tmp_path / "repository"
    refuse = kept_passwords.refuse_to_replace
    refuse(kept, {"passphrase": "new"}, guarded)
    kept_passwords.keep(kept, {"passphrase": "old"}, [], dry=False)
    # Nothing was made with it yet.
    refuse(kept, {"passphrase": "new"}, guarded)
    (guarded / "backup").mkdir(parents=True)
    refuse(kept, {}, guarded)
    refuse(kept, {"passphrase": "old", "other": "new"}, guarded)
    with pytest.raises(kept_passwords.KeptError, match="found another passphrase in the inventory") as error:
        refuse(kept, {"passphrase": "new"}, guarded)
    assert "old" not in str(error.value).split()
    assert (kept / "passphrase").read_text() == "old"


def test_a_copy_that_was_interrupted_is_no_cluster(tmp_path: Path) -> None:
    cluster = postgres.Cluster(15, tmp_path)
    cluster.data.mkdir(parents=True)
    (cluster.data / "PG_VERSION").write_text("15\n")
    assert cluster.exists()
    cluster.unfinished.touch()
    assert not cluster.exists()


def steps(
    monkeypatch: pytest.MonkeyPatch, answers: dict[str, list[list[str]]], call: str, *arguments: Any
) -> list[str]:
    """Return what the module would do, given what the server says to each question that holds a word."""
    monkeypatch.setattr(
        postgresql_objects, "query", lambda sql, *_: next(rows for word, rows in answers.items() if word in sql)
    )
    return [what for what, _sql, _database in getattr(postgresql_objects, call)(*arguments)]


def test_a_role_that_is_as_it_shall_be_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = postgres.verifier("secret", b"salt")
    rows = [["standby", "-1", "", ""], ["prometheus", "-1", "", ""], ["shop", "9", kept, "lock_timeout=5s"]]
    wanted = [{"shop": 9}, {"shop": "secret"}, {"lock_timeout": "5s"}]
    assert steps(monkeypatch, {"pg_authid": rows}, "roles", *wanted) == []
    changed = [{"shop": 8}, {"shop": "other"}, {"lock_timeout": "6s"}]
    assert steps(monkeypatch, {"pg_authid": rows}, "roles", *changed) == [
        "limit shop to 8 connections",
        "set the password of shop",
        "set lock_timeout of shop",
    ]


def test_the_sql_of_a_password_does_not_hold_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgresql_objects, "query", lambda *_: [])
    assert not any(
        "hunter2" in sql for _what, sql, _database in postgresql_objects.roles({"shop": 1}, {"shop": "hunter2"}, {})
    )


def test_others_are_kept_out_of_a_new_database_and_of_an_old_one(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = "{postgres=CTc/postgres,standby=c/postgres}"
    rows = [["postgres", closed], ["template1", closed], ["shop", ""]]
    assert steps(monkeypatch, {"pg_database": rows}, "databases", ["shop", "blog"]) == [
        "keep others out of shop",
        "make the database blog",
        "keep others out of blog",
    ]
    rows = [["postgres", closed], ["template1", closed], ["shop", "{shop=CTc/shop}"]]
    assert steps(monkeypatch, {"pg_database": rows}, "databases", ["shop"]) == []


def test_a_slot_without_a_standby_does_not_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [["db2", "t", "reserved"], ["db9", "f", "extended"], ["db3", "f", "lost"]]
    assert steps(monkeypatch, {"pg_replication_slots": rows}, "slots", ["db2", "db3", "db4"]) == [
        "replace the slot db3, whose WAL is gone",
        "make the slot db4",
        "remove the slot db9",
    ]


@pytest.mark.parametrize(
    ("peers", "archive", "said"),
    [
        ({"db2": 0}, None, ""),
        ({"db2": 0}, False, ""),
        ({"db2": None}, False, ""),
        ({"db2": 2}, None, "db2 is the primary, on timeline 2"),
        ({"db2": 3}, False, "db2 is the primary, on timeline 3"),
        ({"db2": None, "db3": 2}, None, "db3 is the primary"),
        ({"db2": 0}, True, "the archive has a timeline after 2"),
        ({"db2": None}, True, "the archive has a timeline after 2"),
        ({"db2": None, "db3": None}, None, "neither db2, db3 nor an archive answers"),
        # It is behind, and ends itself when it sees this one.
        ({"db2": 1}, None, ""),
    ],
)
def test_a_primary_that_returns_starts_only_when_nobody_was_promoted(
    guard: Any, peers: dict[str, int | None], archive: object, said: str
) -> None:
    found = guard.refusal(2, peers, archive)
    assert found.startswith(said) if said else found == ""


def test_a_host_without_its_server_answers_and_a_host_that_is_gone_does_not(
    guard: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setattr(guard, "PORT", free.getsockname()[1])
        assert guard.ask_peer("127.0.0.1", "") == 0

    def lost(*_: object, **__: object) -> None:
        raise TimeoutError

    monkeypatch.setattr(guard.socket, "create_connection", lost)
    assert guard.ask_peer("127.0.0.1", "") is None


@pytest.mark.parametrize(("status", "known"), [(0, True), (1, False), (37, None)])
def test_the_archive_is_asked_for_the_history_of_the_next_timeline(
    guard: Any, monkeypatch: pytest.MonkeyPatch, status: int, known: object
) -> None:
    asked: list[str] = []

    def run(*argv: str) -> Any:
        asked.extend(argv)
        return type("Done", (), {"returncode": status})

    monkeypatch.setattr(guard, "run", run)
    assert guard.ask_archive('pgbackrest --stanza=main archive-get %f "%p"', 9) is known
    assert asked[3] == "0000000A.history"


def test_a_copy_of_what_was_restored_does_not_stop_where_the_restore_did() -> None:
    text = (
        "# Do not edit this file manually!\nwork_mem = '8MB'\n# Recovery settings generated by pgBackRest restore on 2026-11-25\n"
        "restore_command = 'pgbackrest --stanza=main archive-get %f \"%p\"'\nrecovery_target_time = '2026-11-25 03:00:00+0000'\n"
        "recovery_target_action = 'promote'\n"
    )
    assert postgres.without_targets(text).splitlines() == [
        "# Do not edit this file manually!",
        "work_mem = '8MB'",
        "# Recovery settings generated by pgBackRest restore on 2026-11-25",
    ]


@pytest.mark.parametrize(
    ("seen", "to", "restores"),
    [
        ({"state": "standby", "restoring": "", "restored": ""}, "T", True),
        # Interrupted before it served, when it served, and at its very end.
        ({"state": "none", "restoring": "T", "restored": ""}, "T", True),
        ({"state": "primary", "restoring": "T", "restored": ""}, "T", False),
        ({"state": "primary", "restoring": "", "restored": "T"}, "T", False),
        ({"state": "primary", "restoring": "", "restored": "everything"}, "", False),
    ],
)
def test_the_same_restore_again_goes_on_where_it_was(
    monkeypatch: pytest.MonkeyPatch, seen: dict[str, str], to: str, *, restores: bool
) -> None:
    done: list[str] = []
    monkeypatch.setattr(postgresql_switch, "look", lambda _: seen)
    monkeypatch.setattr(postgresql_switch, "restore", lambda _, moment: done.append(moment))
    params: dict[str, object] = {"action": "restore", "to": to, "slots": [], "timeout_s": 1}
    assert postgresql_switch.work(postgres.Cluster(15), params) is restores
    assert done == ([to] if restores else [])


@pytest.mark.parametrize(
    "noted",
    [
        {"restoring": "", "restored": ""},
        {"restoring": "U", "restored": ""},
        {"restoring": "", "restored": "everything"},
    ],
)
def test_nothing_else_is_restored_onto_a_primary(monkeypatch: pytest.MonkeyPatch, noted: dict[str, str]) -> None:
    monkeypatch.setattr(postgresql_switch, "look", lambda _: {"state": "primary", **noted})
    monkeypatch.setattr(postgresql_switch, "restore", lambda *_: pytest.fail("restored onto a primary"))
    params: dict[str, object] = {"action": "restore", "to": "T", "slots": [], "timeout_s": 1}
    # Ansible's import of the module is another class than that of `postgres`.
    refused: type[Exception] = vars(postgresql_switch)["PostgresError"]
    with pytest.raises(refused, match="nothing is restored onto it"):
        postgresql_switch.work(postgres.Cluster(15), params)


def test_what_was_restored_is_forgotten_when_the_data_goes_its_way(tmp_path: Path) -> None:
    cluster = postgres.Cluster(15, tmp_path)
    cluster.restored.parent.mkdir(parents=True)
    for note in (cluster.restoring, cluster.restored):
        note.write_text("T")
    postgresql_switch.forget(cluster)
    assert postgresql_switch.noted(cluster.restoring) == postgresql_switch.noted(cluster.restored) == ""
    postgresql_switch.forget(cluster)


@pytest.mark.parametrize(("archived", "gives_up"), [(None, True), ("0" * 24, True), ("0" * 23 + "7", False)])
def test_an_archive_that_takes_no_wal_holds_up_no_restore(
    monkeypatch: pytest.MonkeyPatch, archived: str | None, *, gives_up: bool
) -> None:
    """It is waited for and given up without a word, also where it never took any."""
    now = iter(range(100))

    def psql(*_: str, stdin: str) -> str:
        if fallback := re.search(r"coalesce\(last_archived_wal, '(.*)'\)", stdin):
            return f"{fallback[1] if archived is None else archived}\n"
        return "0" * 23 + "7\n"

    # As the module's own `query` finds it.
    monkeypatch.setitem(vars(postgresql_switch)["query"].__globals__, "run", psql)
    clock = types.SimpleNamespace(monotonic=lambda: next(now), sleep=lambda _: None)
    monkeypatch.setitem(vars(postgresql_switch), "time", clock)
    postgresql_switch.archive(5)
    assert (next(now) > 5) is gives_up


def test_nothing_is_left_of_an_old_version_that_is_taken_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgresql_upgrade, "SETTINGS", tmp_path)
    monkeypatch.setattr(postgresql_upgrade, "UNITS", tmp_path / "units")
    for version in (98, 99):
        (tmp_path / f"{version}/main/conf.d").mkdir(parents=True)
    # pg_dropcluster takes the files, and leaves the directory of those that are not its own.
    asked: list[list[str]] = []
    monkeypatch.setattr(subprocess, "run", lambda argv, **_: asked.append(argv))
    postgresql_upgrade.remove(98)
    assert asked == [["pg_dropcluster", "98", "main"]]
    assert postgresql_upgrade.versions() == [99]
