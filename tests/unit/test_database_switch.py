"""Whether a change of the primary may begin, and what a restore says."""

from __future__ import annotations

import pytest

from praetor.run.databases import Restored, Seen, refusal, restored

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
