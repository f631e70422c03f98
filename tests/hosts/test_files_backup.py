"""Copies of files: every host stores what it alone has, encrypted, where it cannot take it away. Nothing without a backup host."""

from __future__ import annotations

import json
import socket
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest
from hosts import BACKUPS, hosts_of, inventory_of

if TYPE_CHECKING:
    from testinfra.host import Host

# Copies are made each night, within twenty minutes of their time.
OLDEST_S = 86400 + 3600
STORE = "/usr/local/libexec/praetor/files-backup"
BORG = (
    "BORG_RSH=/usr/local/libexec/praetor/files-remote BORG_PASSCOMMAND='cat /etc/praetor/files/passphrase' "
    "BORG_RELOCATED_REPO_ACCESS_IS_OK=yes LC_ALL=C.UTF-8 borg --lock-wait=60"
)


def stored(host: Host) -> tuple[dict[str, Any], str]:
    """Return what a host is to store, and the name of its newest copy."""
    names = json.loads(host.check_output(f"{STORE} list"))
    assert names, "nothing is stored"
    return json.loads(host.check_output("cat /etc/praetor/files/backup.json")), names[-1]


def test_there_is_a_copy_younger_than_a_day(storing: Host) -> None:
    _, newest = stored(storing)
    assert time.time() - datetime.fromisoformat(newest).timestamp() < OLDEST_S


def test_every_place_with_files_is_in_the_newest_copy_and_can_be_read(storing: Host) -> None:
    wanted, newest = stored(storing)
    there = [place["path"] for place in wanted["places"] if storing.file(place["path"]).exists]
    assert there, wanted["places"]
    # A host makes a copy when it is provisioned, and its first release writes the first history after that.
    began = datetime.fromisoformat(newest).timestamp()
    there = [path for path in there if int(storing.check_output("stat -c %%W %s", path)) < began]
    archive = f"{wanted['repository']}::{newest}"
    # Taken out to nowhere: every block is fetched, decrypted and held against its checksum.
    for path in there:
        listed = storing.check_output(f"{BORG} extract --dry-run --list {archive} pp:{path.lstrip('/')} 2>&1")
        assert path.lstrip("/") in listed, f"{path} is not in the copy of {newest}"


def test_copies_are_encrypted(storing: Host) -> None:
    wanted, _ = stored(storing)
    said = json.loads(storing.check_output(f"{BORG} info --json {wanted['repository']}"))
    assert said["encryption"]["mode"] == "repokey-blake2"


def test_the_passphrase_of_copies_is_roots_alone(storing: Host) -> None:
    assert storing.check_output("stat -c '%U %a' /etc/praetor/files/passphrase") == "root 600"


def test_copies_are_made_in_time(storing: Host) -> None:
    assert "praetor-files-backup.timer" in storing.check_output("systemctl list-timers --no-legend")


def test_what_is_kept_of_hosts_is_its_users_alone(backup: Host) -> None:
    assert backup.check_output("stat -c '%U %a' /var/lib/praetor-files") == "praetor-files 700"


def test_nobody_but_the_projects_hosts_reaches_the_copies(backup_name: str, pytestconfig: pytest.Config) -> None:
    address = hosts_of(inventory_of(pytestconfig), BACKUPS)[backup_name]["address"]
    with pytest.raises((ConnectionRefusedError, TimeoutError)):
        socket.create_connection((address, 8433), timeout=3).close()
