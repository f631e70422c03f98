"""What can happen to a database, and what clients may notice: some seconds without writes. What was acknowledged is there.

Steps with the mark `short` are the short form, which scenario `databases` runs.
"""

from __future__ import annotations

import re
import time
import urllib.parse
from pathlib import Path

import pytest
from bucket import ENDPOINT, bucket
from ledgers import SKIPPED, WAIT_S, Host, Site

short = pytest.mark.short

UNIT = "postgresql@$(ls /etc/postgresql)-main"
DATA = "/var/lib/postgresql/$(ls /etc/postgresql)/main"
WAL = "/var/lib/postgresql/$(ls /etc/postgresql)/main/pg_wal"
COPY = "/var/lib/postgresql/restored"
BOOT = "cat /proc/sys/kernel/random/boot_id"
HISTORY = "/srv/apps/ledger/history.jsonl"
VERSIONS = "echo $(ls /etc/postgresql)"
NEXT_DEBIAN = (
    "set -e; export DEBIAN_FRONTEND=noninteractive; sed -i 's/bookworm/trixie/g' $(ls /etc/apt/sources.list /etc/apt/sources.list.d/* 2>/dev/null); "
    "apt-get -qq update; apt-get -qq -y -o Dpkg::Options::=--force-confold full-upgrade >/dev/null 2>&1"
)
RESTORE = "runuser -u postgres -- /usr/local/libexec/praetor/database-restore"


def asked(query: str) -> str:
    """Return the command that asks Prometheus."""
    url = f"http://127.0.0.1:9090/api/v1/query?query={urllib.parse.quote(query)}"
    return f"""python3 -c "import urllib.request as r; print(r.urlopen('{url}').read().decode())" """


def await_text(host: Host, command: str, text: str, *, there: bool = True, timeout_s: float = WAIT_S) -> str:
    """Return what a command prints as soon as a text is in it, or no longer."""
    deadline = time.monotonic() + timeout_s
    while (text in (found := host.run(command, check=False))) is not there:
        assert time.monotonic() < deadline, f"{text!r} is {'not ' if there else ''}there: {found}"
        time.sleep(1)
    return found


@short
def test_restart_of_the_database(site: Site) -> None:
    site.primary.run(f"systemctl restart {UNIT}")


@short
def test_database_killed(site: Site) -> None:
    primary = site.primary
    primary.run("pkill -9 -u postgres -f 'bin/postgres -D'")
    site.await_writes()
    assert site.primary is primary


def test_frozen_database(site: Site) -> None:
    primary = site.primary
    primary.run(
        "pkill -STOP -u postgres -f 'postgres: .*ledger'; sleep 5; pkill -CONT -u postgres -f 'postgres: .*ledger'"
    )


def test_silent_network(site: Site) -> None:
    primary = site.primary
    primary.run(f"ip route add blackhole {site.app.address}/32; sleep 8; ip route del blackhole {site.app.address}/32")


def test_full_disk_of_the_database(site: Site) -> None:
    # Its own file system, as large as what is in it: PostgreSQL ends when WAL finds no room, and comes back when there is some.
    primary = site.primary
    primary.run(
        f"set -e; systemctl stop {UNIT}; mkdir -p /run/small; mount -t tmpfs -o size=$(($(du -sm {WAL} | cut -f 1) + 64))m small /run/small; "
        f"cp -a {WAL}/. /run/small/; "
        f"chown postgres: /run/small; chmod 700 /run/small; mount --bind /run/small {WAL}; systemctl start {UNIT}"
    )
    site.await_writes()
    primary.run("dd if=/dev/zero of=/run/small/fill bs=1M 2>/dev/null; true")
    primary.sql("select pg_switch_wal()")
    time.sleep(5)
    primary.run("rm /run/small/fill")
    site.await_writes()
    primary.run(
        f"set -e; systemctl stop {UNIT}; umount {WAL}; find {WAL} -maxdepth 1 -type f -delete; cp -a /run/small/. {WAL}/; umount /run/small; "
        f"rmdir /run/small; systemctl start {UNIT}"
    )


@short
def test_switchover(site: Site) -> None:
    site.await_streaming()
    old, new = site.primary, site.standby
    site.play("switchover", f"to={new.name}")
    assert site.primary is new
    site.await_streaming()
    assert old.sql("select status from pg_stat_wal_receiver") == "streaming"


@pytest.mark.parametrize(
    "task",
    [
        "switch_database | Refuse what would lose something",
        pytest.param("switch_database | Stop the old primary", marks=short),
        "switch_database | Promote the new one",
        "switch_database | Let the others follow",
    ],
)
def test_controller_killed_in_a_switchover(site: Site, task: str) -> None:
    site.await_streaming()
    new = site.standby
    site.play("switchover", f"to={new.name}", kill_at=task)
    site.play("switchover", f"to={new.name}")
    assert site.primary is new
    site.await_streaming()


def test_maintenance_of_the_databases(site: Site) -> None:
    site.await_streaming()
    old, new = site.primary, site.standby
    before = {host.name: host.run(BOOT) for host in site.databases}
    site.play("maintain", "host=database_hosts", "reboot=always")
    assert site.primary is new
    site.await_streaming()
    assert all(host.run(BOOT) != before[host.name] for host in site.databases)
    # Nothing to do is no reason to switch.
    booted = old.run(BOOT)
    site.play("maintain", "host=database_hosts", "reboot=auto")
    assert site.primary is new
    assert old.run(BOOT) == booted


@pytest.mark.parametrize(
    "task",
    ["update_and_reboot | Reboot", "switch_database | Stop the old primary", "switch_database | Promote the new one"],
)
def test_controller_killed_in_maintenance(site: Site, task: str) -> None:
    site.await_streaming()
    before = {host.name: host.run(BOOT) for host in site.databases}
    site.play("maintain", "host=database_hosts", "reboot=always", "update=false", kill_at=task)
    for host in site.databases:
        host.await_boot()
    site.play("maintain", "host=database_hosts", "reboot=always", "update=false")
    site.await_streaming()
    assert all(host.run(BOOT) != before[host.name] for host in site.databases)


@short
def test_failover_and_the_return_of_the_old_primary(site: Site) -> None:
    site.await_streaming()
    old, new = site.primary, site.standby
    # The loss of a host takes with it what had not reached the standby: some milliseconds of writes.
    site.step.forgives_after = site.await_confirmed()
    others = [host.address for host in (site.app, new, site.backup)]
    old.run("; ".join(f"ip route add blackhole {address}/32" for address in others))
    typed = time.time()
    site.play("failover", f"to={new.name}", "force=true")
    assert new.is_primary()
    site.await_writes()
    site.step.notes.append(f"writes came back {time.time() - typed:.0f} s after it was typed, at the latest")
    # It was fenced, for the controller could reach it. One that was not comes back as what it was:
    old.run("rm -f /var/lib/postgresql/*/main/standby.signal")
    old.run(f"systemctl start --no-block {UNIT}")
    time.sleep(6)
    # Cut off from all voices, it does not start.
    assert old.sql("select 1") == ""
    old.run("; ".join(f"ip route del blackhole {address}/32" for address in others))
    # And when it hears them, it learns that it is no longer the primary.
    await_text(old, "journalctl -q --no-pager -o cat -n 50 -u 'postgresql@*'", "is the primary, on timeline")
    assert old.sql("select 1") == ""
    site.play("rejoin", f"host={old.name}")
    site.await_streaming()
    assert site.primary is new


def test_a_running_primary_that_was_cut_off_ends_when_it_sees_the_next(site: Site) -> None:
    site.await_streaming()
    old, new = site.primary, site.standby
    site.step.forgives_after = site.await_confirmed()
    # Cut off from everyone but this controller, and promoted behind its back.
    others = [host.address for host in (site.app, new, site.backup)]
    old.run("; ".join(f"ip route add blackhole {address}/32" for address in others))
    new.sql("select pg_promote()")
    site.await_writes()
    assert old.is_primary()
    old.run("; ".join(f"ip route del blackhole {address}/32" for address in others))
    deadline = time.monotonic() + WAIT_S
    while old.sql("select 1") != "":
        assert time.monotonic() < deadline, "two primaries"
        time.sleep(0.2)
    site.play("rejoin", f"host={old.name}")
    site.await_streaming()


def test_synchronous_writes(site: Site) -> None:
    """What a client was told is on two hosts: the loss of the primary takes nothing with it. What it costs: no standby, no write."""
    site.play("provision", "postgresql_synchronous=true", tags="postgresql")
    site.await_streaming()
    old, new = site.primary, site.standby
    assert old.sql("select sync_state from pg_stat_replication") == "quorum"
    new.run(f"systemctl stop {UNIT}")
    time.sleep(1)
    told = len(site.told())
    time.sleep(5)
    assert len(site.told()) == told, "acknowledged on one host only"
    new.run(f"systemctl start {UNIT}")
    site.await_writes()
    time.sleep(2)
    # Nothing is forgiven this time.
    others = [host.address for host in (site.app, new, site.backup)]
    old.run("; ".join(f"ip route add blackhole {address}/32" for address in others))
    site.play("failover", f"to={new.name}", "force=true")
    site.step.notes.append("synchronous: primary lost, nothing forgiven")
    old.run("; ".join(f"ip route del blackhole {address}/32" for address in others))
    # Without a standby nothing is acknowledged until it is back, so it comes back by the way that is documented.
    site.play("rejoin", f"host={old.name}")
    site.await_writes()
    site.await_streaming()
    site.play("provision", tags="postgresql")
    assert new.sql("show synchronous_standby_names") == ""


@short
def test_restore_to_a_moment_next_to_what_serves(site: Site) -> None:
    point = time.time()
    time.sleep(2)
    found = site.restored(site.play("restore", f"host={site.backup.name}", site.to_time(point)))
    there = site.backup.sql("select n from rows", "ledger", COPY)
    numbers = {int(line) for line in there.splitlines()}
    assert found["rows"] == len(numbers)
    told = site.told()
    assert {number for number, when in told.items() if when < point} - numbers == set()
    assert {number for number in told if site.begun[number] > point} & numbers == set()
    site.play("restore", f"host={site.backup.name}", "remove=true")


@short
def test_databases_lost_now_come_back_as_they_were_a_minute_ago(site: Site) -> None:
    # What the archive has by itself: no playbook asked the primary for the rest.
    lost = time.time()
    site.backup.run(f"{RESTORE} --keep")
    there = site.backup.sql("select n from rows", "ledger", COPY)
    site.backup.run(f"{RESTORE} --remove")
    numbers = {int(line) for line in there.splitlines()}
    # Ten seconds of the minute are for bringing it there, which takes longer where many other programs run.
    slow = site.await_archived()
    old = {number for number, when in site.told().items() if when < lost - 60 - slow}
    assert len(old) > 100
    assert old - numbers == set()


@pytest.mark.parametrize(
    "task",
    [
        "",
        "Ask whether that can be restored",
        "Restore in place of what the host has",
        "Fence the others, which keep what they have",
        "Start what was restored",
        "Say what is left to do",
    ],
)
def test_restore_in_place_of_what_serves_and_controller_killed(site: Site, task: str) -> None:
    site.await_streaming()
    old, new = site.primary, site.standby
    time.sleep(2)
    point = site.step.forgives_after = time.time()
    time.sleep(2)
    options = (f"host={new.name}", "take_over=true", site.to_time(point))
    if task:
        site.play("restore", *options, kill_at=task)
    site.play("restore", *options)
    # Once more brings nothing back, and takes nothing away.
    row = site.await_writes()
    site.play("restore", *options)
    assert site.primary is new
    there = {int(line) for line in new.sql("select n from rows", "ledger").splitlines()}
    assert row in there
    told = site.told()
    assert {number for number, when in told.items() if point < site.begun[number] and when < point + 2} & there == set()
    # It keeps what it had, until somebody gives that up.
    assert old.run(f"test -e {DATA}/standby.signal; systemctl is-active {UNIT} || true") in {"failed", "inactive"}
    assert new.run(f"ls {DATA}.restoring {DATA}.unfinished 2>/dev/null || true") == ""
    site.play("rejoin", f"host={old.name}")
    site.await_streaming()
    # From now on the data goes its own way.
    site.refused("restore", *options, said="nothing is restored onto it")
    site.await_streaming()


@pytest.mark.parametrize("take_over", [False, True], ids=["next to it", "in place"])
def test_wrong_times_are_refused(site: Site, *, take_over: bool) -> None:
    site.await_streaming()
    host = site.standby if take_over else site.backup
    options = (f"host={host.name}", f"take_over={take_over}")
    for wrong, said in (
        ("yesterday", "expected a time such as"),
        ("2026-02-30", "expected a time such as"),
        ("2999-01-01", "which is not over yet"),
        ("2001-01-01", "that is when the oldest backup ended"),
    ):
        site.refused("restore", *options, f"to_time={wrong}", said=said)
    site.await_streaming()


def test_a_primary_is_not_restored_onto(site: Site) -> None:
    primary = site.primary
    site.refused("restore", f"host={primary.name}", "take_over=true", said="nothing is restored onto it")
    assert site.primary is primary


def test_another_passphrase_is_refused_and_the_old_one_stays(site: Site) -> None:
    kept = "cat /etc/praetor/pgbackrest/kept/passphrase /etc/praetor/files/kept/passphrase"
    before = site.backup.run(kept)
    for given, tag in (("pgbackrest_passphrase", "pgbackrest"), ("files_backup_passphrase", "files_backup")):
        said = f"found another passphrase in the inventory than the one in /etc/praetor/{tag.removesuffix('_backup')}"
        site.refused("provision", f"{given}=something-else", tags=tag, said=said)
    assert site.backup.run(kept) == before
    site.play("provision", tags="pgbackrest,files_backup")


def test_a_wrong_passphrase_restores_nothing_and_says_so(site: Site) -> None:
    place = "/etc/praetor/pgbackrest/restore.conf"
    site.backup.run(f"cp -a {place} {place}.kept; sed -i 's/^repo1-cipher-pass=.*/repo1-cipher-pass=wrong/' {place}")
    try:
        site.refused("restore", f"host={site.backup.name}", said="another passphrase than the one")
    finally:
        site.backup.run(f"mv {place}.kept {place}")


def test_a_repository_that_is_gone_is_not_made_again_without_a_word(site: Site) -> None:
    # As when its disk is not mounted.
    site.backup.run("mkdir /run/nothing; chown postgres: /run/nothing; mount --bind /run/nothing /var/lib/pgbackrest")
    try:
        site.refused("restore", f"host={site.backup.name}", said="the repository has no backup")
        site.refused("restore", f"host={site.standby.name}", "take_over=true", said="the repository has no backup")
        site.refused("drill", said="the repository has no backup")
        site.refused("provision", tags="pgbackrest", said="had backups and has none now")
        assert "backup1 has no backup" in site.status()
        site.await_writes()
    finally:
        site.backup.run("umount /var/lib/pgbackrest; rmdir /run/nothing")
    site.await_streaming()


def test_a_second_repository_on_s3_compatible_storage(site: Site, tmp_path: Path) -> None:
    """What the backup host has is gone, and everything comes back from a bucket; what does not fit it is said."""
    site.await_streaming()
    site.backup.run(f"echo {site.gateway} {ENDPOINT} >>/etc/hosts")
    with bucket(site.gateway, tmp_path) as storage:
        for wrong, said in (
            ({"key_secret": "none-that-fits"}, "the storage refuses the key"),
            ({"bucket": "of-somebody-else"}, "the storage has no such bucket"),
        ):
            site.refused("provision", storage.variable(**wrong), tags="pgbackrest", said=said)
        site.play("provision", storage.variable(), tags="pgbackrest")
        for host in site.databases:
            assert storage.key_secret not in host.run("cat /etc/pgbackrest.conf"), (
                "databases need no key of the storage"
            )
        assert "S3-compatible storage of backup1 has 1 backup" in site.status()
        site.restored(site.play("drill", storage.variable()))
        site.await_rows_older_than(0)
        point = time.time()
        time.sleep(2)
        site.backup.run(
            "mkdir /run/nothing; chown postgres: /run/nothing; mount --bind /run/nothing /var/lib/pgbackrest"
        )
        try:
            # The last WAL is there: it is stored in each repository by itself.
            text = site.play("restore", f"host={site.backup.name}", site.to_time(point), storage.variable())
            assert "on S3" in text
            there = {int(line) for line in site.backup.sql("select n from rows", "ledger", COPY).splitlines()}
            assert {number for number, when in site.told().items() if when < point - 0.5} - there == set()
            site.backup.run(f"{RESTORE} --remove")
            old, new = site.primary, site.standby
            point = site.step.forgives_after = time.time()
            time.sleep(2)
            site.play("restore", f"host={new.name}", "take_over=true", site.to_time(point), storage.variable())
            assert site.primary is new
        finally:
            site.backup.run("umount /var/lib/pgbackrest; rmdir /run/nothing")
        site.play("rejoin", f"host={old.name}")
        site.await_streaming()
        site.backup.run("systemctl start pgbackrest@differential pgbackrest@verify")
        assert "S3-compatible storage of backup1 has 2 backups" in site.status()
    # The storage is away: writes go on, and WAL that it has not got is kept until it is back or given up.
    site.primary.sql("select pg_switch_wal()")
    site.await_status("cannot bring its WAL to the backup host")
    site.await_writes()
    site.play("provision", tags="pgbackrest")
    site.await_status("cannot bring its WAL to the backup host", said=False)
    assert "S3" not in site.status()


def test_full_disk_of_the_archive(site: Site) -> None:
    # Writes go on; what waits is archived as soon as there is room.
    place = "/var/lib/pgbackrest"
    site.backup.run(
        f"set -e; systemctl stop pgbackrest-server; mkdir -p /run/small; "
        f"mount -t tmpfs -o size=$(($(du -sm {place} | cut -f 1) + 16))m small /run/small; cp -a {place}/. /run/small/; "
        f"chown postgres: /run/small; mount --bind /run/small {place}; systemctl start pgbackrest-server"
    )
    try:
        site.backup.run("dd if=/dev/zero of=/run/small/fill bs=1M 2>/dev/null; true")
        site.primary.sql("select pg_switch_wal()")
        site.await_status("cannot bring its WAL to the backup host")
        site.await_writes()
        site.backup.run("rm /run/small/fill")
        site.await_status("cannot bring its WAL to the backup host", said=False)
    finally:
        site.backup.run(
            f"set -e; rm -f /run/small/fill; systemctl stop pgbackrest-server; umount {place}; cp -a /run/small/. {place}/; "
            "umount /run/small; rmdir /run/small; systemctl start pgbackrest-server"
        )
    site.restored(site.play("drill"))


def test_a_disk_without_room_for_a_restore(site: Site) -> None:
    place = "/var/lib/postgresql"
    site.backup.run(f"mount -t tmpfs -o size=40m,uid=$(id -u postgres) small {place}")
    try:
        site.refused("restore", f"host={site.backup.name}", said=f"{place} has no room: the backup")
    finally:
        site.backup.run(f"umount {place}")


def test_a_backup_host_of_another_debian_is_refused(site: Site) -> None:
    # Where Ansible reads it.
    system = "/etc/debian_version"
    site.backup.run(f"echo 11.9 >/run/other-debian; mount --bind /run/other-debian {system}")
    try:
        site.refused("provision", tags="pgbackrest", said="pgBackRest speaks with exactly its own version")
    finally:
        site.backup.run(f"umount {system}; rm /run/other-debian")


def test_drill(site: Site) -> None:
    site.restored(site.play("drill"))


@short
def test_files_of_a_busy_app(site: Site) -> None:
    # Notes go to a SQLite file all the time, while it is stored.
    with site.notes() as told:
        while len(told) < 50:
            time.sleep(0.1)
        before = set(told)
        began = time.monotonic()
        site.app.run("systemctl start praetor-files-backup")
        took = time.monotonic() - began
        assert len(told) > len(before), f"nobody could write for the {took:.0f} s that storing took"
        text = site.play("restore", f"host={site.app.name}", "app=ledger")
    assert "data.restored has the files of ledger" in " ".join(text.split())
    there = site.noted("data.restored")
    assert before - there == set()
    assert set(told) - there != set(), "what came later is not in it"
    owner = site.app.run("stat -c '%U %a' /srv/apps/ledger/data/notes.db /srv/apps/ledger/data.restored/notes.db")
    assert len(set(owner.splitlines())) == 1, owner
    site.play("restore", f"host={site.app.name}", "app=ledger", "take_over=true")
    site.await_writes()
    status, _ = site.ask("POST", "/notes/1")
    assert status == 201
    assert site.noted("data") - {1} == there
    site.play("restore", f"host={site.app.name}", "app=ledger", "remove=true")


def test_another_hosts_copies_are_out_of_reach(site: Site) -> None:
    # The certificate says whose repository it is; and what is stored cannot be taken away.
    borg = "BORG_RSH=/usr/local/libexec/praetor/files-remote BORG_PASSCOMMAND='cat /etc/praetor/files/passphrase' LC_ALL=C.UTF-8 borg"
    said = site.app.run(f"{borg} list ssh://{site.backup.name}/var/lib/praetor-files/db1 2>&1 || true")
    assert "Repository path not allowed" in said
    own = f"ssh://{site.backup.name}/var/lib/praetor-files/{site.app.name}"
    first = site.app.run(f"{borg} list --short {own}").splitlines()[0]
    site.backup.run(f"cp -a /var/lib/praetor-files/{site.app.name} /var/lib/praetor-files/kept")
    site.app.run(f"{borg} delete {own}::{first}; {borg} compact {own} 2>&1 || true")
    # Whoever deletes writes only that it is deleted; on the backup host nothing is gone.
    grown = site.backup.run(
        f"diff -rq /var/lib/praetor-files/kept/data /var/lib/praetor-files/{site.app.name}/data | grep 'Only in /var/lib/praetor-files/kept' || true"
    )
    assert grown == ""
    site.backup.run("rm -r /var/lib/praetor-files/kept")


def test_everything_is_lost_but_the_backup_host(site: Site, tmp_path: Path) -> None:
    """The commands of docs/databases.md, on bare hosts and a controller that has this repository, the inventory and the passphrase."""
    site.await_streaming()
    paper = tmp_path / "passphrase"
    paper.write_text("on paper, in a safe\n")
    site.play("controller_copy", f"passphrase_file={paper}")
    history = site.app.run(f"cat {HISTORY}")
    # What is older than a minute must come back.
    site.await_rows_older_than(60)
    with site.notes() as told:
        while len(told) < 50:
            time.sleep(0.1)
        notes = set(told)
        site.app.run("systemctl start praetor-files-backup")
        lost = time.time()
        site.step.forgives_after = lost - 60
        site.lose(site.app, *site.databases)
    first = site.databases[0]
    # The new controller has another place, with nothing in it.
    authority = f"certificates_authority_dir={tmp_path}/authority"
    site.play("controller_copy", authority, f"passphrase_file={paper}", "bring_back=true")
    site.play("provision", authority, "restore_first=true")
    site.play("restore", f"host={first.name}", "take_over=true", kill_at="Start what was restored")
    site.play("restore", f"host={first.name}", "take_over=true")
    site.play("restore", f"host={site.app.name}", "app=ledger", "take_over=true")
    site.play("deploy", authority)
    site.await_writes()
    site.step.notes.append(f"{time.time() - lost:.0f} s from the loss to the first write")
    site.await_streaming()
    assert site.primary is first
    there = {int(line) for line in first.sql("select n from rows", "ledger").splitlines()}
    older = {number for number, when in site.told().items() if when < lost - 60}
    assert len(older) > 100
    assert older - there == set()
    assert notes - site.noted("data") == set()
    # The history goes on where it was.
    assert site.app.run(f"cat {HISTORY}").startswith(history)
    # Backups go on too: what was the newest is not the last.
    site.backup.run("systemctl start pgbackrest@differential")
    site.restored(site.play("drill"))


def test_copies_of_files_are_thinned_out_on_the_backup_host(site: Site) -> None:
    """The commands of docs/databases.md. The host itself, which may not, cannot."""
    borg = "BORG_RSH=/usr/local/libexec/praetor/files-remote BORG_PASSCOMMAND='cat /etc/praetor/files/passphrase' LC_ALL=C.UTF-8 borg"
    own = f"ssh://{site.backup.name}/var/lib/praetor-files/{site.app.name}"
    for _ in range(3):
        site.app.run("systemctl start praetor-files-backup")
    before = site.app.run(f"{borg} list --short {own}").splitlines()
    thin = (
        "set -e; export BORG_PASSPHRASE=$(cat /etc/praetor/files/kept/passphrase) HOME=/var/lib/praetor-files BORG_RELOCATED_REPO_ACCESS_IS_OK=yes; "
        f"cd /; repository=/var/lib/praetor-files/{site.app.name}; "
    )
    size = f"du -sk /var/lib/praetor-files/{site.app.name} | cut -f 1"
    heavy = int(site.backup.run(size))
    site.backup.run(
        f"{thin} runuser -u praetor-files -- borg prune --keep-last 1 $repository; runuser -u praetor-files -- borg compact $repository"
    )
    assert site.app.run(f"{borg} list --short {own}").splitlines() == before[-1:]
    site.step.notes.append(f"{len(before)} copies in {heavy} KiB, then 1 in {site.backup.run(size)} KiB")
    # It goes on: another copy is stored and comes back whole.
    site.app.run("systemctl start praetor-files-backup")
    site.play("restore", f"host={site.app.name}", "app=ledger")
    assert site.noted("data.restored")
    site.play("restore", f"host={site.app.name}", "app=ledger", "remove=true")


def test_a_monitoring_host_tells_of_the_drill_and_gets_back_what_it_kept(site: Site) -> None:
    """A drill that fails is told; what Prometheus measured and Alertmanager was told outlive the loss of both."""
    monitor = site.add_monitoring_host()
    tell = "amtool --alertmanager.url=http://127.0.0.1:9093"
    place = "/etc/praetor/pgbackrest/restore-host.conf"
    site.backup.run(f"cp -a {place} {place}.kept; sed -i 's/^repo1-cipher-pass=.*/repo1-cipher-pass=wrong/' {place}")
    try:
        site.backup.run("systemctl start praetor-database-drill || true")
        assert 'praetor_database_drill_failed{repository="host"} 1' in site.backup.run(
            "cat /var/lib/praetor/metrics/database_drill.prom"
        )
        told = await_text(monitor, f"{tell} alert query alertname=BackupDrillMissing", "backup1")
        site.step.notes.append(told.splitlines()[-1])
    finally:
        site.backup.run(f"mv {place}.kept {place}")
    site.restored(site.play("drill"))
    await_text(monitor, f"{tell} alert query alertname=BackupDrillMissing", "backup1", there=False)
    measured = asked(f"count_over_time(praetor_database_drill_failed[1h] @ {time.time():.0f})")
    assert "backup1" in monitor.run(measured)
    silence = monitor.run(f"{tell} silence add --duration=2h --comment=kept --author=ops alertname=BackupMissing")
    # It writes what it knows every quarter of an hour, and when it ends.
    monitor.run("systemctl restart prometheus-alertmanager; systemctl start praetor-files-backup")
    monitor.run(
        "systemctl stop prometheus prometheus-alertmanager; rm -r /var/lib/prometheus/metrics2 /var/lib/prometheus/alertmanager; "
        "install -d -o prometheus -g prometheus /var/lib/prometheus/metrics2 /var/lib/prometheus/alertmanager; systemctl start prometheus prometheus-alertmanager"
    )
    await_text(monitor, measured, '"result":[]')
    assert silence not in monitor.run(f"{tell} silence query")
    site.refused("restore", f"host={monitor.name}", "to_time=2001-01-01", said="that is the oldest copy")
    site.play("restore", f"host={monitor.name}")
    assert silence not in monitor.run(f"{tell} silence query"), "next to it only"
    site.play("restore", f"host={monitor.name}", "take_over=true")
    await_text(monitor, measured, "backup1")
    await_text(monitor, f"{tell} silence query", silence)
    # It goes on from there.
    await_text(monitor, asked('up{job="postgres"}'), "db1")
    site.play("restore", f"host={monitor.name}", "remove=true")
    assert monitor.run("ls -d /var/lib/prometheus/*.before /var/lib/prometheus/*.restored 2>/dev/null || true") == ""


def test_the_next_debian(site: Site) -> None:
    """By the commands of docs/databases.md: from Debian 12 to 13, then from PostgreSQL 15 to 17. On 13 there is nothing to bring, and nothing happens."""
    site.await_streaming()
    old, new = site.primary, site.standby
    if old.run("cat /etc/debian_version").startswith("13"):
        site.play("upgrade_databases", skip_tags=SKIPPED)
        assert site.primary is old
        assert old.run(VERSIONS) == "17"
        return
    for host in (new, old, site.backup):
        if host is old:
            site.play("switchover", f"to={new.name}")
        host.run(NEXT_DEBIAN)
        host.run("systemctl reboot", check=False)
        host.await_boot()
        site.await_writes()
    site.play("upgrade_databases", "try=true")
    assert new.sql("show server_version").startswith("15")
    text = " ".join(site.play("upgrade_databases", skip_tags=SKIPPED).split())
    [said] = re.findall(r"it took no writes for [0-9.]+ s", text)
    site.step.notes.append(f"PostgreSQL 17: {said}")
    assert site.primary is new
    assert new.sql("show server_version").startswith("17")
    site.await_streaming()
    site.restored(site.play("drill"))
    site.play("upgrade_databases", "remove_old=true")
    assert [host.run(VERSIONS) for host in (new, old)] == ["17", "17"]


@short
def test_host_tests_of_the_data_tier(site: Site) -> None:
    site.verify("test_databases.py", "test_backups.py", "test_files_backup.py", "test_redis.py")
