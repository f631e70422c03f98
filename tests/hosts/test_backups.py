"""The backup host: it has a backup that is young enough, nobody but database hosts reaches it, and what it keeps nobody else reads."""

from __future__ import annotations

import json
import socket
import time
from typing import TYPE_CHECKING, Any

import pytest
from hosts import BACKUPS, DATABASES, hosts_of, inventory_of, reached

if TYPE_CHECKING:
    from testinfra.host import Host

DAY_S = 86400
# Differential backups are made each night, within ten minutes of their time.
OLDEST_S = DAY_S + 3600


@pytest.fixture(scope="session")
def kept(backup: Host) -> dict[str, Any]:
    """Return what the repository holds."""
    (found,) = json.loads(backup.check_output("runuser -u postgres -- pgbackrest --stanza=main info --output=json"))
    return dict(found)


def test_there_is_a_backup_younger_than_a_day(kept: dict[str, Any]) -> None:
    assert kept["status"]["code"] == 0, kept["status"]
    newest = max(one["timestamp"]["stop"] for one in kept["backup"] if not one["error"])
    assert time.time() - newest < OLDEST_S


def test_backups_are_encrypted(kept: dict[str, Any]) -> None:
    assert kept["cipher"] == "aes-256-cbc"


def test_wal_reaches_the_backup_host(backup: Host, pytestconfig: pytest.Config) -> None:
    del backup
    for settings in hosts_of(inventory_of(pytestconfig), DATABASES).values():
        host = reached(settings)
        sql = "select coalesce(last_failed_time, '-infinity') <= coalesce(last_archived_time, '-infinity') from pg_stat_archiver"
        assert host.check_output(f'runuser -u postgres -- psql -X -A -t -d postgres -c "{sql}"') == "t"


def test_only_database_hosts_reach_it(backup_name: str, pytestconfig: pytest.Config) -> None:
    address = hosts_of(inventory_of(pytestconfig), BACKUPS)[backup_name]["address"]
    with pytest.raises((ConnectionRefusedError, TimeoutError)):
        socket.create_connection((address, 8432), timeout=3).close()


@pytest.mark.parametrize(
    "place",
    ["/etc/praetor/pgbackrest/key.pem", "/etc/praetor/pgbackrest/kept", "/var/lib/pgbackrest", "/etc/pgbackrest.conf"],
)
def test_what_is_kept_is_not_for_others(backup: Host, place: str) -> None:
    assert backup.check_output(f"find {place} -maxdepth 0 -perm /007") == ""


def test_backups_are_made_and_tried_in_time(backup: Host) -> None:
    listed = backup.check_output("systemctl list-timers --no-legend")
    for timer in (
        "pgbackrest@full.timer",
        "pgbackrest@differential.timer",
        "pgbackrest@verify.timer",
        "praetor-database-drill.timer",
    ):
        assert timer in listed
