"""Balancers: what clients meet there, what they use of the hosts behind them, and who else reaches these."""

from __future__ import annotations

import csv
import ssl
from typing import Any

import pytest
from client import Site
from hosts import reached, served
from project import ROOT
from testinfra.host import Host

from praetor.inventory.ports import METRICS_PORT

ASK = (
    "import socket, sys; c = socket.socket(socket.AF_UNIX); c.connect('{path}'); c.sendall(b'{command}\\n'); "
    "c.shutdown(socket.SHUT_WR); print(b''.join(iter(lambda: c.recv(65536), b'')).decode())"
)
REFUSED = (
    "import socket, sys; c = socket.socket(socket.AF_INET6 if ':' in '{address}' else socket.AF_INET); c.settimeout(3); "
    "print(c.connect_ex(('{address}', {port})))"
)

# All at once, because a port that drops what comes takes the whole time to say so.
SHOWN = (
    "import socket; from concurrent.futures import ThreadPoolExecutor as Pool\n"
    "def ask(port):\n"
    "    with socket.socket(socket.AF_INET6 if ':' in '{address}' else socket.AF_INET) as c:\n"
    "        c.settimeout(3); return port if c.connect_ex(('{address}', port)) == 0 else 0\n"
    "print(*filter(None, Pool(64).map(ask, {ports})))"
)


def told(balancer: Host, socket: str, command: str) -> str:
    """What HAProxy answers on one of its sockets."""
    return str(balancer.check_output("python3 -c %s", ASK.format(path=f"/run/haproxy/{socket}", command=command)))


@pytest.fixture(scope="session")
def trusted(balancer: Host, balancer_settings: dict[str, Any]) -> ssl.SSLContext:
    """Return whom a client trusts."""
    if balancer_settings["certificates"] == "internal":
        return ssl.create_default_context(cadata=balancer.check_output("cat /etc/praetor/tls/host/authority.pem"))
    return ssl.create_default_context(cafile=str(ROOT / balancer_settings["roots"]))


def test_clients_meet_a_certificate_of_each_name_and_http2(
    balancer_settings: dict[str, Any], trusted: ssl.SSLContext
) -> None:
    trusted.set_alpn_protocols(["h2", "http/1.1"])
    for app in balancer_settings["apps"]:
        for name in app.get("server_names", []):
            with Site(balancer_settings["address"], trusted).connect(name) as connection:
                assert isinstance(connection, ssl.SSLSocket)
                assert connection.selected_alpn_protocol() == "h2"
                assert connection.version() in {"TLSv1.2", "TLSv1.3"}


def test_an_unknown_name_is_shown_no_certificate(balancer_settings: dict[str, Any]) -> None:
    nobody = ssl.create_default_context()
    nobody.check_hostname, nobody.verify_mode = False, ssl.CERT_NONE
    with pytest.raises((ssl.SSLError, ConnectionError)):
        Site(balancer_settings["address"], nobody).connect("unknown.example.org").close()


def test_plain_http_leads_to_https(balancer_settings: dict[str, Any]) -> None:
    name = served(balancer_settings)[0]["server_names"][0]
    answer = Site(balancer_settings["address"], None).ask(name, "/a?b=c")
    assert (answer.status, answer.headers["Location"]) == (308, f"https://{name}/a?b=c")


def test_every_host_is_used_for_every_app_unless_it_is_drained(
    balancer: Host, fleet: dict[str, dict[str, Any]]
) -> None:
    table = csv.DictReader(told(balancer, "admin.sock", "show stat").removeprefix("# ").splitlines())
    drained = {
        name for name, settings in fleet.items() if reached(settings).file("/var/lib/praetor/balanced/drained").exists
    }
    apps = {app["name"] for settings in fleet.values() for app in settings["apps"]}
    found = {
        (row["pxname"], row["svname"]): row["status"]
        for row in table
        if row["pxname"] in apps and row["svname"] not in {"FRONTEND", "BACKEND"}
    }
    assert set(found) == {(app, host) for app in apps for host in fleet}
    assert {place: status for place, status in found.items() if status != "UP" and place[1] not in drained} == {}


def test_haproxy_runs_with_its_files_as_they_are(balancer: Host) -> None:
    said = told(balancer, "master.sock", "show proc")
    assert "failed: 0" in said, said
    worker = said.partition("# workers")[2].split()[0]
    started = int(balancer.check_output("date +%s")) - int(balancer.check_output("ps -o etimes= -p %s", worker))
    written = int(balancer.check_output("stat -c %Y /etc/haproxy/haproxy.cfg"))
    assert started >= written - 1, "it was written and not loaded"


def test_who_is_not_root_cannot_command_haproxy(balancer: Host) -> None:
    for socket in ("admin.sock", "master.sock"):
        assert balancer.run("runuser -u nobody -- test -w /run/haproxy/%s", socket).rc != 0


def test_the_exporter_is_on_loopback_only(balancer: Host, balancer_settings: dict[str, Any]) -> None:
    assert balancer.check_output("python3 -c %s", REFUSED.format(address="127.0.0.1", port=8405)) == "0"
    address = balancer_settings["address"]
    assert balancer.check_output("python3 -c %s", REFUSED.format(address=address, port=8405)) != "0"


def test_one_balancer_has_each_shared_address(balancers: dict[str, dict[str, Any]]) -> None:
    if not balancers:
        pytest.skip("no balancers")
    has = {
        name: reached(settings).check_output("ip -oneline address show scope global")
        for name, settings in balancers.items()
    }
    for shared in next(iter(balancers.values()))["shared"]:
        holders = [name for name, said in has.items() if f" {shared.partition('/')[0]}/" in said]
        assert len(holders) == 1, f"{shared} is at {holders}"


def test_an_app_host_takes_requests_from_balancers_and_not_from_another_app_host(
    host: Host, host_name: str, fleet: dict[str, dict[str, Any]], balancers: dict[str, dict[str, Any]]
) -> None:
    others = {name: settings for name, settings in fleet.items() if name != host_name}
    if not balancers or not others:
        pytest.skip("no balancers, or one app host")
    address = next(iter(others.values()))["address"]
    for port in (80, 443):
        assert host.check_output("python3 -c %s", REFUSED.format(address=address, port=port)) != "0", port
    by = reached(next(iter(balancers.values())))
    assert by.check_output("python3 -c %s", REFUSED.format(address=address, port=443)) == "0"


def test_an_app_host_shows_nothing_to_others_but_ssh_and_what_they_ask_each_other(
    host: Host, host_name: str, fleet: dict[str, dict[str, Any]], balancers: dict[str, dict[str, Any]]
) -> None:
    others = {name: settings for name, settings in fleet.items() if name != host_name}
    if not balancers or not others:
        pytest.skip("no balancers, or one app host")
    other = next(iter(others.values()))
    listens = [line.split()[3] for line in reached(other).check_output("ss -Hltn").splitlines()]
    ports = {int(where.rpartition(":")[2]) for where in listens if not where.startswith(("127.", "[::1]"))}
    assert {443, int(other["port"])} <= ports, ports
    shown = host.check_output("python3 -c %s", SHOWN.format(address=other["address"], ports=sorted(ports)))
    # What each runs that may run once, by certificate: test_metrics_endpoint.py.
    assert set(map(int, shown.split())) <= {int(other["port"]), METRICS_PORT}
