"""Databases: who may come in and how, what stays secret, and that exactly one host takes writes. Nothing where there is no database host."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any

import pytest
from hosts import DATABASES, hosts_of, inventory_of, reached

if TYPE_CHECKING:
    from testinfra.host import Host

PEM = "/etc/praetor/tls/host"
# A foreign authority and a certificate of it with the name of a database host.
FOREIGN = (
    "cd $(mktemp -d) && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -days 1 -subj /CN=%s -keyout key.pem "
    "-out cert.pem 2>/dev/null && chmod 600 key.pem && pwd"
)


def asks(host: Host, address: str, conninfo: str, sql: str = "select 1") -> tuple[int, str]:
    """Ask a database from a host with its Python alone; what psql would say, if the host has it."""
    done = host.run(f"LC_ALL=C psql -X -A -t -d 'host={address} {conninfo}' -c \"{sql}\"")
    return done.rc, done.stdout.strip() + done.stderr.strip()


@pytest.fixture(scope="session")
def peers(pytestconfig: pytest.Config) -> dict[str, dict[str, Any]]:
    """Return what the inventory says about all database hosts."""
    return hosts_of(inventory_of(pytestconfig), DATABASES)


def postgres(host: Host, sql: str) -> str:
    """Ask a host's own server."""
    return str(host.check_output(f'runuser -u postgres -- psql -X -A -t -d postgres -c "{sql}"'))


def test_exactly_one_host_takes_writes(database: Host, peers: dict[str, dict[str, Any]]) -> None:
    del database
    taking = [
        name for name, settings in peers.items() if postgres(reached(settings), "select pg_is_in_recovery()") == "f"
    ]
    assert len(taking) == 1, taking


def test_every_standby_follows_the_primary(database: Host) -> None:
    if postgres(database, "select pg_is_in_recovery()") == "t":
        assert postgres(database, "select status from pg_stat_wal_receiver") == "streaming"


def test_plain_tcp_is_refused(database: Host, database_settings: dict[str, Any]) -> None:
    rc, said = asks(database, database_settings["address"], "user=postgres dbname=postgres sslmode=disable")
    assert rc != 0
    assert "no encryption" in said or "no pg_hba.conf entry" in said


def test_tls_below_1_3_is_refused(database: Host, database_settings: dict[str, Any]) -> None:
    asked = f"openssl s_client -starttls postgres -tls1_2 -connect {database_settings['address']}:5432 </dev/null 2>&1"
    assert "Cipher is (NONE)" in database.run(asked).stdout
    assert "TLSv1.3" in database.run(asked.replace("-tls1_2", "-tls1_3")).stdout


def test_a_foreign_certificate_is_refused(database: Host, database_name: str, peers: dict[str, dict[str, Any]]) -> None:
    for name, settings in peers.items():
        if name == database_name:
            continue
        place = database.check_output(FOREIGN % database_name)
        base = f"user=standby dbname=postgres sslmode=verify-full sslrootcert={PEM}/authority.pem"
        rc, said = asks(database, settings["address"], f"{base} sslcert={place}/cert.pem sslkey={place}/key.pem")
        assert rc != 0, said
        rc, said = asks(database, settings["address"], f"{base} sslcert={PEM}/cert.pem sslkey={PEM}/key.pem")
        assert (rc, said) == (0, "1")


def test_nobody_but_the_projects_hosts_reaches_the_port(database_settings: dict[str, Any]) -> None:
    with pytest.raises((ConnectionRefusedError, TimeoutError)):
        socket.create_connection((database_settings["address"], 5432), timeout=3).close()


@pytest.mark.parametrize(
    "place",
    ["/etc/praetor/postgresql/key.pem", "/etc/praetor/postgresql/passwords", "/var/lib/postgresql/*/main"],
)
def test_keys_passwords_and_data_are_their_owners_alone(database: Host, place: str) -> None:
    # What is below a directory that nobody else may enter, nobody else reaches.
    listed = database.check_output(f"find {place} -maxdepth 0 -perm /077")
    assert listed == ""


def test_what_is_kept_is_checked_on_every_read(database: Host) -> None:
    assert postgres(database, "show data_checksums") == "on"


def test_no_role_of_an_app_may_do_more_than_its_own(database: Host) -> None:
    sql = "select rolname from pg_roles where (rolsuper or rolcreaterole or rolcreatedb or rolbypassrls) and rolname <> 'postgres'"
    assert postgres(database, sql) == ""


def test_no_database_is_open_to_all(database: Host) -> None:
    sql = (
        "select datname from pg_database where datallowconn and has_database_privilege('standby', datname, 'connect') "
        "and datname <> 'postgres'"
    )
    assert postgres(database, sql) == ""


def test_an_app_enters_its_own_database_and_no_other(
    host: Host, settings: dict[str, Any], peers: dict[str, dict[str, Any]]
) -> None:
    asked = [app["name"] for app in settings["apps"] if app.get("database")]
    for app in asked if peers else []:
        live = host.check_output(f"dirname $(readlink -f /srv/apps/{app}/live.sock)")
        assert live
        script = (
            "import os, sys; d = sys.argv[1]; "
            "[os.environ.__setitem__(n, open(f'{d}/{n}').read()) for n in os.listdir(d)]; "
            "import psycopg; c = psycopg.connect(os.environ['DATABASE_URL'], **dict(a.split('=') for a in sys.argv[2:])); "
            "print(*c.execute('select current_user, current_database(), ssl, version from pg_stat_ssl where pid = pg_backend_pid()').fetchone())"
        )
        newest = host.check_output(f"ls -td /srv/apps/{app}/releases/*/ | head -1").rstrip("/")
        run = f'runuser -u {app} -- {newest}/venv/bin/python -c "{script}" {newest}/secrets'
        if host.run(f"{newest}/venv/bin/python -c 'import psycopg'").rc:
            continue
        assert host.check_output(run).endswith("True TLSv1.3")
        for other in ("dbname=postgres", "user=postgres", "sslmode=disable"):
            assert host.run(f"{run} {other}").rc != 0, other
