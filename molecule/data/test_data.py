"""What can happen to a database, and what clients may notice: some seconds without writes. What was acknowledged is there."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from ledgers import Site

UNIT = "postgresql@$(ls /etc/postgresql)-main"
DATA = "/var/lib/postgresql/$(ls /etc/postgresql)/main"
WAL = "/var/lib/postgresql/$(ls /etc/postgresql)/main/pg_wal"


def test_restart_of_the_database(site: Site) -> None:
    site.primary.run(f"systemctl restart {UNIT}")


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


def test_switchover(site: Site) -> None:
    site.await_streaming()
    old, new = site.primary, site.standby
    site.play("switchover", f"to={new.name}")
    assert site.primary is new
    assert old.sql("select status from pg_stat_wal_receiver") == "streaming"


def test_controller_killed_after_the_old_primary_was_stopped(site: Site) -> None:
    site.await_streaming()
    new = site.standby
    site.play("switchover", f"to={new.name}", kill_at="Promote the new one")
    site.play("switchover", f"to={new.name}")
    assert site.primary is new
    site.await_streaming()


def test_failover_and_the_return_of_the_old_primary(site: Site) -> None:
    site.await_streaming()
    old, new = site.primary, site.standby
    # The loss of a host takes with it what had not reached the standby: some milliseconds of writes.
    site.step.forgives_after = time.time() - 1
    others = [host.address for host in (site.app, new, site.backup)]
    old.run("; ".join(f"ip route add blackhole {address}/32" for address in others))
    site.play("failover", f"to={new.name}", "force=true")
    assert new.is_primary()
    site.await_writes()
    # It was fenced, for the controller could reach it. One that was not comes back as what it was:
    old.run("rm -f /var/lib/postgresql/*/main/standby.signal")
    old.run(f"systemctl start --no-block {UNIT}")
    time.sleep(6)
    # Cut off from all voices, it does not start.
    assert old.sql("select 1") == ""
    old.run("; ".join(f"ip route del blackhole {address}/32" for address in others))
    time.sleep(8)
    # And when it hears them, it learns that it is no longer the primary.
    assert old.sql("select 1") == ""
    assert "is the primary, on timeline" in old.run("journalctl -q --no-pager -o cat -n 50 -u 'postgresql@*'")
    site.play("rejoin", f"host={old.name}")
    site.await_streaming()
    assert site.primary is new


def test_a_running_primary_that_was_cut_off_ends_when_it_sees_the_next(site: Site) -> None:
    site.await_streaming()
    old, new = site.primary, site.standby
    site.step.forgives_after = time.time() - 1
    # Cut off from everyone but this controller, and promoted behind its back.
    others = [host.address for host in (site.app, new, site.backup)]
    old.run("; ".join(f"ip route add blackhole {address}/32" for address in others))
    new.sql("select pg_promote()")
    site.await_writes()
    assert old.is_primary()
    old.run("; ".join(f"ip route del blackhole {address}/32" for address in others))
    deadline = time.monotonic() + 30
    while old.sql("select 1") != "":
        assert time.monotonic() < deadline, "two primaries"
        time.sleep(0.2)
    site.play("rejoin", f"host={old.name}")
    site.await_streaming()


def test_restore_to_a_moment_next_to_what_serves(site: Site) -> None:
    point = time.time()
    time.sleep(2)
    at = datetime.fromtimestamp(point, UTC).isoformat(sep=" ")
    found = site.restored(site.play("restore", f"host={site.backup.name}", f'{{"to_time": "{at}"}}'))
    there = site.backup.run(
        "runuser -u postgres -- psql -X -A -t -h /var/lib/postgresql/restored -d ledger -c 'select n from rows'"
    )
    numbers = {int(line) for line in there.splitlines()}
    assert found["rows"] == len(numbers)
    told = {number: when for number, when in site.acknowledged.items() if number not in site.forgiven}
    assert {number for number, when in told.items() if when < point - 0.5} - numbers == set()
    assert {number for number, when in told.items() if when > point + 0.5} & numbers == set()
    site.play("restore", f"host={site.backup.name}", "remove=true")


def test_restore_in_place_of_what_serves(site: Site) -> None:
    site.await_streaming()
    old, new = site.primary, site.standby
    time.sleep(2)
    point = site.step.forgives_after = time.time()
    time.sleep(2)
    at = datetime.fromtimestamp(point, UTC).isoformat(sep=" ")
    site.play("restore", f"host={new.name}", "take_over=true", f'{{"to_time": "{at}"}}')
    site.await_writes()
    assert site.primary is new
    there = {int(line) for line in new.sql("select n from rows", "ledger").splitlines()}
    told = {number: when for number, when in site.acknowledged.items() if number not in site.forgiven}
    assert {number for number, when in told.items() if point + 0.5 < when < point + 2} & there == set()
    # It keeps what it had, until somebody gives that up.
    assert old.run(f"test -e {DATA}/standby.signal; systemctl is-active {UNIT} || true") in {"failed", "inactive"}
    site.play("rejoin", f"host={old.name}")
    site.await_streaming()


def test_wrong_times_are_refused(site: Site) -> None:
    for wrong, said in (
        ("yesterday", "expected a time such as"),
        ("2999-01-01", "which is not over yet"),
        ("2001-01-01", "that is when the oldest backup ended"),
    ):
        assert said in " ".join(
            site.play("restore", f"host={site.backup.name}", f"to_time={wrong}", well=False).split()
        )


def test_a_primary_is_not_restored_onto(site: Site) -> None:
    text = site.play("restore", f"host={site.primary.name}", "take_over=true", well=False)
    assert "nothing is restored onto it" in " ".join(text.split())


def test_drill(site: Site) -> None:
    site.restored(site.play("drill"))


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
    script = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); print(c.execute('pragma integrity_check').fetchone()[0]); [print(n) for (n,) in c.execute('select n from notes')]"
    read = f'python3 -c "{script}" /srv/apps/ledger/%s/notes.db'
    whole, *there = site.app.run(read % "data.restored").splitlines()
    assert whole == "ok"
    assert before - set(map(int, there)) == set()
    assert set(told) - set(map(int, there)) != set(), "what came later is not in it"
    owner = site.app.run("stat -c '%U %a' /srv/apps/ledger/data/notes.db /srv/apps/ledger/data.restored/notes.db")
    assert len(set(owner.splitlines())) == 1, owner
    site.play("restore", f"host={site.app.name}", "app=ledger", "take_over=true")
    site.await_writes()
    status, _ = site.ask("POST", "/notes/1")
    assert status == 201
    assert set(map(int, site.app.run(read % "data").splitlines()[1:])) - {1} == set(map(int, there))
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
