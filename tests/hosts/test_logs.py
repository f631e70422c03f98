"""What hosts write down reaches the monitoring host, and nobody else writes there."""

from __future__ import annotations

import json
import time
import uuid
from typing import TYPE_CHECKING, Any

import pytest
from hosts import served
from units import exposure

if TYPE_CHECKING:
    from client import Site
    from testinfra.host import Host

EXPOSURE = {"stunnel@journal": 1.5, "systemd-journal-remote": 1.5}
PATIENCE_S = 300  # the uploader tries again every ten seconds, and the machine may have a lot to do
SEND = """
import http.client, ssl, sys
context = ssl.create_default_context(cafile="/etc/praetor/tls/host/authority.pem")
if len(sys.argv) > 2:
    context.load_cert_chain(*sys.argv[2:])
connection = http.client.HTTPSConnection(sys.argv[1], 19532, context=context, timeout=10)
line = b"MESSAGE=sent by a test of the host\\n__REALTIME_TIMESTAMP=1795377000000000\\n\\n"
connection.request("POST", "/upload", line, {"Content-Type": "application/vnd.fdo.journal"})
print(connection.getresponse().status)
"""


@pytest.mark.parametrize("unit", EXPOSURE)
def test_what_receives_logs_is_sandboxed(monitor: Host, unit: str) -> None:
    assert exposure(monitor, unit) <= EXPOSURE[unit]


@pytest.mark.usefixtures("monitor")
@pytest.mark.parametrize("unit", ["systemd-journal-upload", "access-log-upload"])
def test_what_sends_logs_is_sandboxed(host: Host, unit: str) -> None:
    assert exposure(host, unit) <= 1.5


def test_a_request_reaches_the_monitoring_host_with_its_own_time(
    host: Host, monitor: Host, site: Site, settings: dict[str, Any]
) -> None:
    for app in served(settings):
        request_id = uuid.uuid4().hex
        # As long as a line of a client gets: it comes whole.
        site.ask(app["server_names"][0], f"/nowhere?{'x' * 5000}", {"X-Request-ID": request_id})
        [line] = [json.loads(each) for each in arrived(monitor, app["name"], request_id)]
        message = json.loads(line["MESSAGE"])
        assert len(message["uri"]) == len("/nowhere?") + 5000
        assert int(line["__REALTIME_TIMESTAMP"]) == round(message["ts"] * 1000) * 1000
        assert line["_HOSTNAME"] == host.check_output("hostname")
        # The journal of the host has no copy of it.
        assert (
            host.run("journalctl --quiet --no-pager -o cat -u nginx --since=-15min | grep %s", request_id).stdout == ""
        )


def arrived(monitor: Host, app: str, request_id: str) -> list[str]:
    """Return the lines about a request, as soon as the monitoring host has one."""
    command = (
        "journalctl -D /var/log/journal/remote --no-pager --all -o json --since=-15min SYSLOG_IDENTIFIER=%s | grep %s"
    )
    deadline = time.monotonic() + PATIENCE_S
    while not (found := str(monitor.run(command, app, request_id).stdout)):
        assert time.monotonic() < deadline, request_id
        time.sleep(1)
    return found.splitlines()


@pytest.mark.parametrize("certificate", ["none", "self-signed"])
def test_nobody_writes_without_a_certificate_of_the_authority(
    host: Host, monitor_settings: dict[str, Any], certificate: str
) -> None:
    own: list[str] = []
    if certificate != "none":
        place = host.check_output("mktemp -d")
        own = [f"{place}/cert.pem", f"{place}/key.pem"]
        make = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=%s -out %s -keyout %s"
        host.run_expect([0], make, host.check_output("hostname"), *own)
    arguments = " ".join([monitor_settings["address"], *own])
    refused = host.run(f"python3 -c %s {arguments}", SEND)
    right = host.run(
        "python3 -c %s %s /etc/praetor/tls/host/cert.pem /etc/praetor/tls/host/key.pem",
        SEND,
        monitor_settings["address"],
    )
    if own:
        host.check_output("rm -r %s", own[0].rpartition("/")[0])
    assert refused.rc != 0
    assert "ssl" in refused.stderr.lower()
    assert right.stdout.strip() == "202"


def test_the_receiver_itself_is_reached_on_loopback_only(monitor: Host) -> None:
    listening = monitor.check_output("ss --no-header --listening --tcp --numeric | awk '$4 ~ /:19531$/ {print $4}'")
    assert listening == "127.0.0.1:19531"


def test_the_archive_has_a_limit_that_its_receiver_knows(monitor: Host) -> None:
    said = monitor.check_output("journalctl --quiet --no-pager --output=cat --boot --unit=systemd-journal-remote")
    assert "Unknown key" not in said
    if "MaxUse=" not in monitor.file("/etc/systemd/journal-remote.conf.d/60-praetor.conf").content_string:
        assert monitor.service("journal-archive-limit.timer").is_running
        assert monitor.run("systemctl start journal-archive-limit.service").rc == 0
