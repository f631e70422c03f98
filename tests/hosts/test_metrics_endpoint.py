"""The metrics endpoint of an app host: for the monitoring hosts, and refused to everybody else in every way."""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING, Any

import pytest
from client import Site
from hosts import served

if TYPE_CHECKING:
    from testinfra.host import Host

PORT = 9443
HOST, SITES = "/etc/praetor/tls/host", "/etc/praetor/tls/sites"
# Prints status and first bytes of an answer, or the name of what went wrong. Arguments: address, expected name, path, certificate, key.
ASK = """
import http.client, socket, ssl, sys
address, name, path, certificate, key, newest = sys.argv[1:]
context = ssl.create_default_context(cafile="/etc/praetor/tls/host/authority.pem")
context.maximum_version = ssl.TLSVersion[newest]
if certificate:
    context.load_cert_chain(certificate, key)
try:
    raw = socket.create_connection((address, 9443), timeout=5)
    connection = http.client.HTTPConnection(address)
    connection.sock = context.wrap_socket(raw, server_hostname=name)
    connection.request("GET", path)
    answer = connection.getresponse()
    print(answer.status, answer.read(40).decode(errors="replace").partition("\\n")[0])
except OSError as error:
    print(type(error).__name__, error)
"""


def ask(
    asker: Host,
    address: str,
    *,
    name: str = "",
    path: str = "/metrics/node",
    pair: tuple[str, str] = (f"{HOST}/cert.pem", f"{HOST}/key.pem"),
    newest: str = "TLSv1_3",
) -> str:
    """Ask an endpoint from a host, with that host's own certificate unless another one is given."""
    said: str = asker.check_output(
        "python3 -c %s %s %s %s %s %s %s", ASK, address, name or address, path, *pair, newest
    )
    return said


@pytest.mark.parametrize("path", ["/metrics/node", "/metrics/nginx", "/metrics/app"])
def test_the_monitoring_host_gets_metrics(monitor: Host, settings: dict[str, Any], path: str) -> None:
    assert ask(monitor, settings["address"], path=path).startswith("200 # HELP ")


def test_our_own_metrics_are_as_prometheus_wants_them(host: Host, monitor: Host) -> None:
    text = host.check_output("cd /usr/local/lib/app_exporter && python3 -B -m app_exporter --once")
    checked = monitor.run("printf %%s %s | promtool check metrics", text + "\n")
    assert (checked.rc, checked.stdout, checked.stderr) == (0, "", "")


def test_there_is_nothing_but_metrics(monitor: Host, settings: dict[str, Any]) -> None:
    for path in ("/", "/metrics", "/metrics/", "/metrics/node/", "/stub_status", "/health/ready"):
        assert ask(monitor, settings["address"], path=path).startswith("404 "), path


def test_without_a_certificate_there_is_nothing(monitor: Host, settings: dict[str, Any]) -> None:
    assert ask(monitor, settings["address"], pair=("", "")).startswith("400 ")


def test_a_certificate_of_ones_own_making_is_refused(monitor: Host, settings: dict[str, Any]) -> None:
    place = monitor.check_output("mktemp -d")
    pair = (f"{place}/cert.pem", f"{place}/key.pem")
    subject = monitor.check_output("openssl x509 -in %s/cert.pem -noout -subject -nameopt multiline", HOST)
    name = subject.rpartition("= ")[2].strip()
    try:
        made = (
            "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj %s -out %s -keyout %s"
        )
        monitor.check_output(made, f"/CN={name}", *pair)
        assert ask(monitor, settings["address"], pair=pair).startswith("400 ")
    finally:
        monitor.check_output("rm -r %s", place)


def test_another_host_of_the_same_authority_is_refused(host: Host, monitor: Host, settings: dict[str, Any]) -> None:
    del monitor  # without a monitoring host there is no endpoint
    assert ask(host, settings["address"]).startswith("403 ")


def test_an_app_host_learns_from_another_what_runs_once_and_nothing_else(host: Host, settings: dict[str, Any]) -> None:
    others = json.loads(host.check_output("cat /etc/praetor/app_hosts.json"))["others"]
    if not others:
        pytest.skip("one app host")
    for address in others.values():
        for app in settings["apps"]:
            said = ask(host, address, path=f"/claims/{app['name']}")
            assert said.startswith(("200 ", "404 ")), said
        # Where no host monitors there are none.
        assert ask(host, address).startswith(("403 ", "404 "))
        assert ask(host, address, path="/claims/../data").startswith("404 ")


def test_a_sites_certificate_opens_nothing(host: Host, monitor: Host, settings: dict[str, Any]) -> None:
    del monitor
    for app in settings["apps"]:
        place = f"{SITES}/{app['name']}"
        if host.file(f"{place}/key.pem").exists:
            pair = (f"{place}/fullchain.pem", f"{place}/key.pem")
            assert ask(host, settings["address"], pair=pair).startswith("400 ")


def test_a_server_that_is_another_host_is_refused_by_the_monitoring_host(
    monitor: Host, settings: dict[str, Any]
) -> None:
    said = ask(monitor, settings["address"], name="other.invalid")
    assert said.startswith("SSLCertVerificationError ")


def test_older_tls_is_refused(monitor: Host, settings: dict[str, Any]) -> None:
    assert ask(monitor, settings["address"], newest="TLSv1_2").startswith("SSLError ")


def test_the_public_side_has_no_endpoint(settings: dict[str, Any]) -> None:
    # This machine is none of the monitoring hosts: the firewall drops it.
    with pytest.raises((ConnectionRefusedError, TimeoutError)):
        socket.create_connection((settings["address"], PORT), timeout=3).close()


@pytest.mark.parametrize("path", ["/metrics/node", "/metrics/app", "/stub_status"])
def test_the_sites_port_serves_no_metrics(site: Site, settings: dict[str, Any], path: str) -> None:
    for app in served(settings):
        answer = site.ask(app["server_names"][0], path)
        assert b"# HELP" not in answer.body
        assert answer.status != 200
