"""Queues and caches: TLS or nothing, each app into its own only, and nothing readable that should not be. Nothing where there is no Redis host."""

from __future__ import annotations

import re
import socket
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from testinfra.host import Host

AUTHORITY = "/etc/praetor/tls/host/authority.pem"
PASSWORDS = "/etc/praetor/redis/passwords"  # a place
# Enters where an address leads, with the app's own Python and nothing else; says what the server says.
ENTER = """
import os, socket, ssl, sys, urllib.parse as p
url = p.urlsplit(open(sys.argv[1]).read())
trusted = p.parse_qs(url.query)["ssl_ca_certs"][0]
port = int(sys.argv[2]) if len(sys.argv) > 2 else url.port
plain = socket.create_connection((url.hostname, port), timeout=5)
channel = ssl.create_default_context(cafile=trusted).wrap_socket(plain, server_hostname=url.hostname)
channel.sendall(f"AUTH {url.username} {p.unquote(url.password)}\\r\\n".encode())
print(channel.recv(200).decode().strip())
"""
FOREIGN = (
    "cd $(mktemp -d) && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -days 1 -subj /CN=foreign -keyout key.pem "
    "-out cert.pem 2>/dev/null && pwd"
)


def instances(redis: Host) -> dict[str, int]:
    """Return the port of each instance of a host, by its name."""
    lines = redis.check_output("grep -H '^tls-port ' /etc/redis/*/redis.conf || true").splitlines()
    return {
        name: int(port)
        for name, port in re.findall(r"^/etc/redis/(\S+)/redis.conf:tls-port (\d+)$", "\n".join(lines), re.MULTILINE)
    }


def asks(
    redis: Host, port: int, address: str, words: str, how: str = f"--tls --cacert {AUTHORITY}", user: str = ""
) -> str:
    """Ask an instance with redis-cli, as a user with the password that is in a file."""
    name, _, file = user.partition(":")
    secret = f"REDISCLI_AUTH=$(cat {PASSWORDS}/{file}) " if file else ""
    done = redis.run(
        f"{secret}timeout 10 redis-cli -h {address} -p {port} {how} {f'--user {name}' if name else ''} {words} 2>&1"
    )
    return str(done.stdout.strip())


def test_what_apps_ask_for_runs(redis: Host, redis_settings: dict[str, Any]) -> None:
    asked = {
        f"{app['name']}-{keeps}"
        for app in redis_settings["apps"]
        for keeps in ("queue", "cache")
        if (app.get("redis") or {}).get(keeps)
    }
    assert set(instances(redis)) == asked
    for name, port in instances(redis).items():
        unit = f"redis-server@{name}.service"
        shown = redis.check_output("systemctl is-active %s; systemctl is-enabled %s", unit, unit).split()
        assert shown == ["active", "enabled"]
        wanted = "noeviction" if name.endswith("-queue") else "allkeys-lru"
        said = asks(redis, port, redis_settings["address"], "CONFIG GET maxmemory-policy", user="praetor:praetor")
        assert said.split()[-1] == wanted


def test_there_is_no_instance_but_these(redis: Host) -> None:
    listening = redis.check_output("ss -ltnpH").splitlines()
    ports = {int(line.split()[3].rpartition(":")[2]) for line in listening if '"redis-server"' in line}
    assert ports == set(instances(redis).values())


def test_plain_tcp_and_older_tls_are_refused(redis: Host, redis_settings: dict[str, Any]) -> None:
    address = redis_settings["address"]
    for port in instances(redis).values():
        assert "PONG" not in asks(redis, port, address, "PING", how="")
        connect = f"openssl s_client -connect {address}:{port} </dev/null 2>&1"
        assert "Cipher is (NONE)" in redis.run(connect.replace("-connect", "-tls1_2 -connect")).stdout
        assert "TLSv1.3" in redis.run(connect.replace("-connect", "-tls1_3 -connect")).stdout


def test_a_server_of_a_foreign_authority_is_refused_by_clients(redis: Host, redis_settings: dict[str, Any]) -> None:
    foreign = redis.check_output(FOREIGN)
    for port in instances(redis).values():
        for authority, fits in ((AUTHORITY, True), (f"{foreign}/cert.pem", False)):
            said = asks(redis, port, redis_settings["address"], "PING", how=f"--tls --cacert {authority}")
            assert ("NOAUTH" in said) == fits, said
            assert ("verify failed" in said) != fits, said


def test_nobody_enters_without_a_password_and_an_app_only_its_own(redis: Host, redis_settings: dict[str, Any]) -> None:
    address, found = redis_settings["address"], instances(redis)
    for name, port in found.items():
        own = name.rpartition("-")[0]
        assert "NOAUTH" in asks(redis, port, address, "GET x")
        assert asks(redis, port, address, "PING", user=f"{own}:{name}").endswith("PONG")
        for other in found:
            if other != name:
                said = asks(redis, port, address, "PING", user=f"{other.rpartition('-')[0]}:{other}")
                assert "WRONGPASS" in said, f"{other} entered {name}"


@pytest.mark.parametrize(
    "word", ["CONFIG GET dir", "MODULE LIST", "BGREWRITEAOF", "REPLICAOF NO ONE", "ACL LIST", "SHUTDOWN"]
)
def test_an_app_gets_no_further_than_its_keys(redis: Host, redis_settings: dict[str, Any], word: str) -> None:
    for name, port in instances(redis).items():
        said = asks(redis, port, redis_settings["address"], word, user=f"{name.rpartition('-')[0]}:{name}")
        assert "NOPERM" in said


def test_the_exporter_sees_figures_and_no_key(redis: Host, redis_settings: dict[str, Any]) -> None:
    for port in instances(redis).values():
        for word in ("GET x", "KEYS x", "CONFIG SET maxmemory 1"):
            assert "NOPERM" in asks(redis, port, redis_settings["address"], word, user="exporter:exporter")


def test_nobody_but_app_hosts_reaches_the_ports(redis: Host, redis_settings: dict[str, Any]) -> None:
    for port in instances(redis).values():
        with pytest.raises((ConnectionRefusedError, TimeoutError)):
            socket.create_connection((redis_settings["address"], port), timeout=3).close()


@pytest.mark.parametrize(
    "place", ["/etc/praetor/redis/tls/key.pem", PASSWORDS, "/etc/praetor/redis/exporter.env", "/etc/redis/*/users.acl"]
)
def test_keys_passwords_and_users_are_not_for_everybody(redis: Host, place: str) -> None:
    assert redis.check_output(f"find {place} -maxdepth 0 -perm /007") == ""


def test_an_instance_sees_nothing_of_the_others(redis: Host) -> None:
    found = instances(redis)
    for name in found:
        pid = redis.check_output("systemctl show --property=MainPID --value redis-server@%s.service", name)
        for place in ("/var/lib/redis", "/etc/redis"):
            assert redis.check_output(f"ls /proc/{pid}/root{place}") == name
        assert redis.run(f"nsenter --mount --target={pid} cat {PASSWORDS}/praetor").rc != 0


def test_an_instance_is_in_a_sandbox(redis: Host) -> None:
    for name in instances(redis):
        told = redis.check_output("systemd-analyze security --no-pager redis-server@%s.service | tail -1", name)
        assert float(re.findall(r": (\d+\.\d+) ", told)[0]) <= 1.3, told


def test_a_reload_loses_no_connection(redis: Host, redis_settings: dict[str, Any]) -> None:
    for name, port in instances(redis).items():
        before = redis.check_output("systemctl show --property=MainPID --value redis-server@%s.service", name)
        redis.check_output("systemctl reload redis-server@%s.service", name)
        assert redis.check_output("systemctl show --property=MainPID --value redis-server@%s.service", name) == before
        assert asks(redis, port, redis_settings["address"], "PING", user=f"{name.rpartition('-')[0]}:{name}").endswith(
            "PONG"
        )


def test_an_app_enters_where_its_address_leads_and_nowhere_else(host: Host, settings: dict[str, Any]) -> None:
    asking = [app["name"] for app in settings["apps"] if app.get("redis")]
    if not asking:
        pytest.skip("no app of this inventory asks for a queue or a cache")
    places: dict[str, tuple[str, str, int]] = {}
    for app in asking:
        newest = host.check_output(f"ls -td /srv/apps/{app}/releases/*/ | head -1").rstrip("/")
        found = host.check_output(f"find {newest}/secrets -name REDIS_URL -o -name CACHE_URL").split()
        assert found, app
        places |= {
            place: (app, newest, int(re.findall(r":(\d+)/0", host.check_output("cat %s", place))[0])) for place in found
        }
    for place, (app, newest, port) in places.items():
        for _, _, other in places.values():
            said = host.run("runuser -u %s -- %s/venv/bin/python -c %s %s %s", app, newest, ENTER, place, str(other))
            assert said.stdout.strip().startswith("+OK") == (port == other), said.stdout + said.stderr
