"""The monitoring host: it sees every app from outside, keeps what it sees, and lets nobody ask who did not log in."""

from __future__ import annotations

import json
import socket
import time
import urllib.parse
from typing import TYPE_CHECKING, Any

import pytest
from units import exposure

if TYPE_CHECKING:
    from testinfra.host import Host

# Highest exposure that `systemd-analyze security` may say.
EXPOSURE = {
    "prometheus": 2.0,
    "prometheus-alertmanager": 2.0,
    "prometheus-blackbox-exporter": 1.5,
    "prometheus-node-exporter": 1.5,
}
PORTS = {"prometheus": 9090, "alertmanager": 9093, "blackbox": 9115, "node": 9100}
FETCH = "import sys, urllib.request; sys.stdout.buffer.write(urllib.request.urlopen(sys.argv[1], timeout=60).read())"


def prometheus(monitor: Host, path: str) -> Any:
    """Ask Prometheus' API on the host's loopback."""
    answer = json.loads(monitor.check_output("python3 -c %s %s", FETCH, f"http://127.0.0.1:9090/api/v1/{path}"))
    assert answer["status"] == "success"
    return answer["data"]


def query(monitor: Host, expression: str) -> list[dict[str, Any]]:
    """Compute an expression now."""
    found: list[dict[str, Any]] = prometheus(monitor, f"query?query={urllib.parse.quote(expression)}")["result"]
    return found


@pytest.mark.parametrize("unit", EXPOSURE)
def test_a_service_is_sandboxed(monitor: Host, unit: str) -> None:
    assert exposure(monitor, unit) <= EXPOSURE[unit]


def test_no_unit_has_failed(monitor: Host) -> None:
    assert monitor.check_output("systemctl list-units --failed --plain --no-legend") == ""


@pytest.mark.parametrize("port", PORTS.values(), ids=PORTS)
def test_nobody_can_ask_who_did_not_log_in(monitor_settings: dict[str, Any], port: int) -> None:
    with pytest.raises((ConnectionRefusedError, TimeoutError)):
        socket.create_connection((monitor_settings["address"], port), timeout=3).close()


def test_every_target_answers(monitor: Host) -> None:
    # The first answers come within an interval after a start.
    for _ in range(180):
        targets = prometheus(monitor, "targets")["activeTargets"]
        down = {f"{target['scrapeUrl']}: {target['lastError']}" for target in targets if target["health"] != "up"}
        if targets and not down:
            break
        time.sleep(1)
    assert not down
    assert {target["scrapePool"] for target in targets} >= {
        *["prometheus", "alertmanager", "node", "nginx", "app", "blackbox"]
    }


def test_every_app_answers_under_each_name_on_each_host_and_at_the_address_of_all(
    monitor: Host, fleet: dict[str, dict[str, Any]], balancers: dict[str, dict[str, Any]]
) -> None:
    names = {
        (host, app["name"], name)
        for host, settings in fleet.items()
        for app in settings["apps"]
        for name in app.get("server_names", [])
    }
    # Clients ask balancers: at the address that they share, or each at its own.
    shared = {address.partition("/")[0] for settings in balancers.values() for address in settings["shared"]}
    asked = shared or set(balancers)
    expected = names | {(address, app, name) for address in asked for _, app, name in names}
    labels = ("instance", "app", "server_name")
    for _ in range(180):
        found = query(monitor, 'probe_success{job="blackbox"} == 1')
        seen = {tuple(series["metric"][label] for label in labels) for series in found}
        if seen == expected:
            break
        time.sleep(1)
    assert seen == expected


def test_measurements_have_the_hosts_name_and_no_port(monitor: Host) -> None:
    assert [series["metric"]["instance"] for series in query(monitor, 'up{instance=~".*:.*"}')] == []


def test_every_rule_is_well(monitor: Host) -> None:
    rules = [rule for group in prometheus(monitor, "rules")["groups"] for rule in group["rules"]]
    assert [f"{rule['name']}: {rule['lastError']}" for rule in rules if rule["health"] == "err"] == []
    assert bool(rules) == bool(monitor.run("cat /etc/prometheus/rules/*.yml").stdout)


def test_alerts_reach_the_alertmanager(monitor: Host) -> None:
    active = prometheus(monitor, "alertmanagers")["activeAlertmanagers"]
    assert [manager["url"] for manager in active] == ["http://127.0.0.1:9093/api/v2/alerts"]


def test_secrets_of_receivers_are_roots_own(monitor: Host) -> None:
    found = monitor.run("find /etc/prometheus/alertmanager-secrets -type f -printf '%m %u %g\\n'").stdout.split("\n")
    assert set(found) <= {"600 root root", ""}
