"""Whether a change of the primary may begin, and what a restore says."""

from __future__ import annotations

import pytest

from praetor.run.databases import (
    Backups,
    Restored,
    Seen,
    Upgradable,
    age,
    maintenance,
    notes,
    refusal,
    restored,
    rows,
    upgrade,
)

PRIMARY: Seen = {"state": "primary", "lsn": "0/5000", "timeline": 1, "streaming": False, "lag_bytes": {"db2": 0}}
STANDBY: Seen = {"state": "standby", "lsn": "0/5000", "timeline": 1, "streaming": True, "lag_bytes": {}}
STOPPED: Seen = {"state": "stopped", "lsn": "0/5000", "timeline": 1, "streaming": False, "lag_bytes": {}}
NONE: Seen = {"state": "none", "lsn": "0/0", "timeline": 0, "streaming": False, "lag_bytes": {}}
GONE: Seen = {}
BEHIND: Seen = {**STANDBY, "lsn": "0/4000"}
AHEAD: Seen = {**STANDBY, "lsn": "1/0"}


@pytest.mark.parametrize(
    ("kind", "hosts"),
    [
        ("switchover", {"db1": PRIMARY, "db2": STANDBY}),
        # Interrupted after the old primary was stopped, and after the new one was promoted.
        ("switchover", {"db1": STOPPED, "db2": STANDBY}),
        ("switchover", {"db1": STANDBY, "db2": STANDBY}),
        ("switchover", {"db1": STOPPED, "db2": PRIMARY}),
        ("failover", {"db1": GONE, "db2": STANDBY}),
        ("failover", {"db1": STOPPED, "db2": STANDBY}),
        ("failover", {"db1": GONE, "db2": PRIMARY}),
        ("rejoin", {"db1": PRIMARY, "db2": STOPPED}),
        ("rejoin", {"db1": PRIMARY, "db2": NONE}),
    ],
)
def test_a_change_that_loses_nothing_without_need_may_begin(kind: str, hosts: dict[str, Seen]) -> None:
    assert refusal(kind, "db2", hosts) == ""


@pytest.mark.parametrize(
    ("kind", "hosts", "said"),
    [
        ("switchover", {"db1": PRIMARY, "db2": STOPPED}, "db2 is stopped: only a standby that runs"),
        ("switchover", {"db1": PRIMARY, "db2": GONE}, "db2 is unreachable"),
        ("switchover", {"db1": GONE, "db2": STANDBY}, "playbooks/failover.yml -e to=db2"),
        ("switchover", {"db1": {**PRIMARY, "lag_bytes": {}}, "db2": STANDBY}, "db2 does not follow db1"),
        ("switchover", {"db1": PRIMARY, "db2": {**STANDBY, "streaming": False}}, "db2 does not follow db1"),
        ("switchover", {"db1": {**PRIMARY, "lag_bytes": {"db2": 10**9}}, "db2": STANDBY}, "1000 MB behind db1"),
        ("switchover", {"db1": STOPPED, "db2": BEHIND, "db3": AHEAD}, "db3 has more than db2: -e to=db3"),
        ("failover", {"db1": PRIMARY, "db2": STANDBY}, "playbooks/switchover.yml -e to=db2, or -e force=true"),
        ("failover", {"db1": GONE, "db2": BEHIND, "db3": STANDBY}, "db3 has more than db2"),
        ("failover", {"db1": GONE, "db2": STOPPED}, "db2 is stopped"),
        ("rejoin", {"db1": STOPPED, "db2": STOPPED}, "so there is nothing to follow"),
        ("rejoin", {"db1": STOPPED, "db2": PRIMARY}, "a primary is not overwritten"),
        ("rejoin", {"db1": PRIMARY, "db2": GONE}, "db2 cannot be reached"),
        (
            "switchover",
            {"db1": PRIMARY, "db2": {**PRIMARY, "timeline": 2}},
            "both take writes, db2 on the later timeline",
        ),
        ("switchover", {"db1": PRIMARY, "db3": STANDBY}, "to: found db2, expected a database host: -e to=db1 or db3"),
    ],
)
def test_a_change_that_would_lose_something_is_refused(kind: str, hosts: dict[str, Seen], said: str) -> None:
    assert said in refusal(kind, "db2", hosts)


@pytest.mark.parametrize("hosts", [{"db1": PRIMARY, "db2": STANDBY}, {"db1": GONE, "db2": BEHIND, "db3": STANDBY}])
def test_an_operator_may_insist_on_a_failover(hosts: dict[str, Seen]) -> None:
    assert refusal("failover", "db2", hosts, force=True) == ""


def test_a_restore_says_up_to_when_it_goes_and_what_it_holds() -> None:
    found: Restored = {
        "restored_to": "T",
        "backup": "B",
        "tables": {"shop.public.wares": 3},
        "rows": 3,
        "socket": "/s",
        "seconds": 1.5,
    }
    text = restored("db2", found)
    assert "shop.public.wares  3" in text
    assert "Restored to T (the last transaction), from backup B, in 1.5 s" in text
    assert "psql -h /s" in text
    assert "playbooks/restore.yml -e host=db2 -e remove=true" in text
    assert "The copy is gone again." in restored("db2", {**found, "socket": ""})


def test_the_table_says_who_takes_writes_and_who_is_behind() -> None:
    primary: Seen = {**PRIMARY, "lag_bytes": {"db_2": 2_500_000}}
    table = rows({"db1": primary, "db-2": STANDBY, "db3": {**STANDBY, "streaming": False}, "db4": GONE})
    assert [tuple(row.values()) for row in table] == [
        ("db1", "primary", 1, "-"),
        ("db-2", "standby", 1, "2.5 MB"),
        ("db3", "standby", 1, "does not follow"),
        ("db4", "no answer", "-", "-"),
    ]


@pytest.mark.parametrize(
    ("seen", "kept", "said"),
    [
        ({"db1": STANDBY}, {}, "No host takes writes, expected one: docs/runbooks/DatabaseWithoutPrimary.md"),
        ({"db1": PRIMARY, "db2": PRIMARY}, {}, "db1 and db2 take writes, expected one: docs/runbooks/TwoPrimaries.md"),
        ({"db1": PRIMARY}, {}, "The databases have no backup"),
        ({"db1": PRIMARY}, {"backup1": {}}, "backup1 does not say"),
        (
            {"db1": {**PRIMARY, "archive_failed": 980}},
            {},
            "db1 cannot bring its WAL to the backup host, and tried last 20 s ago",
        ),
        ({"db1": {**NONE, "restoring": "T"}}, {}, "db1 is being restored to T, or that was interrupted"),
        ({"db1": PRIMARY}, {"backup1": {"backups": 0, "newest": 0, "full": 0}}, "backup1 has no backup"),
    ],
)
def test_notes_say_what_is_not_as_it_should_be(seen: dict[str, Seen], kept: dict[str, Backups], said: str) -> None:
    assert any(said in line for line in notes(seen, kept, 1000.0))


def test_notes_say_how_old_backups_are() -> None:
    kept: Backups = {"backups": 5, "newest": 990_000, "full": 700_000, "drill": 0, "drill_failed": True}
    (line,) = notes({"db1": PRIMARY}, {"backup1": kept}, 1_000_000.0)
    assert line == (
        "backup1 has 5 backups, the newest 2 h old, the newest full one 3 d; never restored on trial, and the last try failed: "
        "playbooks/drill.yml says why."
    )
    assert [age(seconds) for seconds in (-1, 5, 119, 120, 7200, 172_800)] == [
        "0 s",
        "5 s",
        "119 s",
        "2 min",
        "2 h",
        "2 d",
    ]


CLEAN: Seen = {**STOPPED, "clean": True}


@pytest.mark.parametrize(
    ("hosts", "chosen", "order"),
    [
        ({"db1": PRIMARY, "db2": STANDBY}, ["db1", "db2"], (["db2"], "db1", "db2", "")),
        ({"db1": STANDBY, "db2": PRIMARY}, ["db1", "db2"], (["db1"], "db2", "db1", "")),
        ({"db1": PRIMARY, "db2": STANDBY}, ["db2"], (["db2"], "", "", "")),
        ({"db1": PRIMARY, "db2": STANDBY}, ["db1"], ([], "db1", "db2", "")),
        ({"db1": PRIMARY, "db2": STANDBY, "db3": STANDBY}, ["db1", "db3"], (["db3"], "db1", "db2", "")),
        # Interrupted: a standby that was being maintained, a switch before its promotion, one after it.
        ({"db1": PRIMARY, "db2": CLEAN}, ["db1", "db2"], (["db2"], "db1", "db2", "")),
        ({"db1": CLEAN, "db2": STANDBY}, ["db1", "db2"], (["db1"], "db2", "db1", "db2")),
        ({"db1": CLEAN, "db2": BEHIND, "db3": STANDBY}, ["db1"], (["db1"], "", "", "db3")),
        ({"db1": CLEAN, "db2": PRIMARY}, ["db1", "db2"], (["db1"], "db2", "db1", "")),
    ],
)
def test_standbys_are_maintained_first_and_an_interrupted_switch_is_taken_up(
    hosts: dict[str, Seen], chosen: list[str], order: tuple[list[str], str, str, str]
) -> None:
    found = maintenance(chosen, hosts)
    assert found["refused"] == ""
    assert (found["first"], found["primary"], found["successor"], found["resume"]) == order


@pytest.mark.parametrize(
    ("hosts", "said"),
    [
        ({"db1": PRIMARY, "db2": GONE}, "db2 cannot be reached, and no other database host is touched"),
        ({"db1": PRIMARY, "db2": {**PRIMARY, "timeline": 2}}, "both take writes"),
        ({"db1": CLEAN, "db2": CLEAN}, "db1 is stopped"),
        # Fenced by a failover or a restore: what it has is an operator's to give up.
        ({"db1": PRIMARY, "db2": {**STOPPED, "clean": False}}, "db2 does not follow db1: playbooks/rejoin.yml"),
        ({"db1": PRIMARY, "db2": NONE}, "db2 does not follow db1: playbooks/rejoin.yml"),
        ({"db1": PRIMARY, "db2": {**STANDBY, "streaming": False}}, "db2 does not follow db1: playbooks/rejoin.yml"),
        ({"db1": PRIMARY}, "db1 has no standby"),
    ],
)
def test_databases_that_would_lose_something_are_not_maintained(hosts: dict[str, Seen], said: str) -> None:
    assert said in maintenance(list(hosts), hosts)["refused"]


def test_a_database_without_a_standby_is_maintained_when_it_is_said() -> None:
    found = maintenance(["db1"], {"db1": PRIMARY}, outage=True)
    assert (found["refused"], found["primary"], found["successor"]) == ("", "db1", "")


OLD: Upgradable = {"version": 15, "state": "primary", "begun": False}
OLD_STANDBY: Upgradable = {"version": 15, "state": "standby", "begun": False}
SYSTEMS = {"db1": "13", "db2": "13", "backup1": "13"}


@pytest.mark.parametrize(
    ("hosts", "primary"),
    [
        ({"db1": OLD, "db2": OLD_STANDBY}, "db1"),
        ({"db1": OLD_STANDBY, "db2": OLD}, "db2"),
        # Interrupted: while pg_upgrade worked, before the new version was started, after it.
        ({"db1": {**OLD, "state": "stopped", "begun": True}, "db2": OLD_STANDBY}, "db1"),
        ({"db1": {**OLD, "version": 17, "state": "stopped"}, "db2": OLD_STANDBY}, "db1"),
        ({"db1": {**OLD, "version": 17}, "db2": OLD_STANDBY}, "db1"),
        ({"db1": {**OLD, "version": 17}, "db2": {**OLD, "version": 0, "state": "none"}}, "db1"),
    ],
)
def test_the_primary_is_upgraded_and_an_interrupted_upgrade_taken_up(
    hosts: dict[str, Upgradable], primary: str
) -> None:
    assert upgrade(17, hosts, SYSTEMS) == ("", primary)


@pytest.mark.parametrize(
    ("hosts", "systems", "said"),
    [
        ({"db1": OLD, "db2": {}}, SYSTEMS, "db2 cannot be reached"),
        ({"db1": OLD, "db2": OLD_STANDBY}, {**SYSTEMS, "backup1": "12"}, "the same Debian first, found db1 13, db2 13"),
        ({"db1": {**OLD, "version": 17}, "db2": OLD_STANDBY}, dict.fromkeys(SYSTEMS, "12"), "db1 has PostgreSQL 17"),
        ({"db1": OLD, "db2": OLD}, SYSTEMS, "db1 and db2 takes writes, expected one primary"),
        ({"db1": {**OLD, "state": "stopped"}, "db2": OLD_STANDBY}, SYSTEMS, "no host takes writes"),
    ],
)
def test_databases_that_cannot_be_upgraded_are_left_alone(
    hosts: dict[str, Upgradable], systems: dict[str, str], said: str
) -> None:
    to = int({"12": 15, "13": 17}[systems["db1"]])
    assert said in upgrade(to, hosts, systems)[0]
