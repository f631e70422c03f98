"""Consoles and dashboards on the monitoring host: pages come, and every query of theirs finds data."""

from __future__ import annotations

import json
import re
import time
import urllib.parse
from typing import TYPE_CHECKING, Any

import pytest
from project import ROOT

if TYPE_CHECKING:
    from testinfra.host import Host

PAGES = ("fleet", "databases", "redis", "app", "host")
FETCH = "import sys, urllib.request; sys.stdout.buffer.write(urllib.request.urlopen(sys.argv[1], timeout=60).read())"


def fetch(monitor: Host, path: str) -> str:
    """Ask Prometheus on the host's loopback."""
    text: str = monitor.check_output("python3 -c %s %s", FETCH, f"http://127.0.0.1:9090/{path}")
    return text


def expressions(settings: dict[str, dict[str, Any]]) -> dict[str, str]:
    """Return the query of each panel that draws, by page and title, asked of one host and one app."""
    host, own = next(iter(settings.items()))
    found = {}
    for page in PAGES:
        for panel in json.loads((ROOT / f"grafana/{page}.json").read_text(encoding="utf-8"))["panels"]:
            if panel["title"] != "Alerts that fire":
                text = panel["targets"][0]["expr"].replace("$app", own["apps"][0]["name"]).replace("$instance", host)
                found[f"{page}: {panel['title']}"] = text
    return found


def data(monitor: Host, expression: str) -> list[Any]:
    """Compute an expression now; what is not a number is no data."""
    answer = json.loads(fetch(monitor, f"api/v1/query?query={urllib.parse.quote(expression)}"))
    return [sample for sample in answer["data"]["result"] if sample["value"][1] != "NaN"]


def test_every_panel_finds_data(monitor: Host, fleet: dict[str, dict[str, Any]]) -> None:
    wanted = expressions(fleet)
    if not data(monitor, 'up{job="haproxy"}'):
        wanted = {title: text for title, text in wanted.items() if "haproxy_" not in text}
    for page, job in (("databases", "postgres"), ("redis", "redis")):
        if not data(monitor, f'up{{job="{job}"}}'):
            wanted = {title: text for title, text in wanted.items() if not title.startswith(f"{page}:")}
    if len(data(monitor, 'up{job="postgres"}')) < 2:
        # A database host alone has no standby.
        wanted = {title: text for title, text in wanted.items() if "by (standby)" not in text}
    if not data(monitor, 'node_systemd_service_restart_total{name=~"app-.+@[0-9]+.service"}'):
        # The apps of these hosts have no processes.
        wanted = {title: text for title, text in wanted.items() if "node_systemd_service_restart_total" not in text}
    if not data(monitor, "praetor_app_memory_bytes"):
        # The kernel of these hosts has no controllers for memory and tasks.
        unknown = re.compile("praetor_(app|program)_memory|praetor_app_(oom_kills|tasks)")
        wanted = {title: text for title, text in wanted.items() if not unknown.search(text)}
    assert len(wanted) > 20
    # A rate needs two answers of an exporter.
    for _ in range(75):
        wanted = {title: text for title, text in wanted.items() if not data(monitor, text)}
        if not wanted:
            break
        time.sleep(4)
    assert wanted == {}


@pytest.mark.parametrize("page", PAGES)
def test_a_console_shows_the_host_and_the_app(monitor: Host, fleet: dict[str, dict[str, Any]], page: str) -> None:
    host, own = next(iter(fleet.items()))
    app = own["apps"][0]["name"]
    text = fetch(monitor, f"consoles/{page}.html?app={app}&instance={host}")
    assert f'href="host.html?instance={host}"' in text
    assert f'href="app.html?app={app}"' in text
    if page not in {"databases", "redis"}:
        assert '<span class="good">serves</span>' in text
    assert "error executing template" not in text
