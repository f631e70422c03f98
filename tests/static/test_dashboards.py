"""Consoles and Grafana's dashboards: the same panels, queries that Prometheus can read, nothing from outside."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from project import ROOT, files_of, load

CONSOLES = files_of("roles/prometheus/files/consoles/*")
DASHBOARDS = files_of("grafana/*.json")
RECORDED = {
    rule["record"]
    for path in files_of("roles/prometheus/files/rules/*.yml")
    for group in load(path)["groups"]
    for rule in group["rules"]
    if "record" in rule
}


def queries(value: Any) -> list[str]:
    """Return every query of a dashboard, of panels and annotations."""
    if isinstance(value, list):
        return [query for item in value for query in queries(item)]
    if not isinstance(value, dict):
        return []
    own = [value["expr"]] if "expr" in value else []
    return own + [query for item in value.values() for query in queries(item)]


def test_the_dashboards_are_current() -> None:
    command = [sys.executable, "grafana/generate.py", "--check"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_every_graph_of_a_console_is_a_panel() -> None:
    assert [path.stem for path in DASHBOARDS] == ["app", "databases", "fleet", "host", "redis"]
    for path in DASHBOARDS:
        board = json.loads(path.read_text(encoding="utf-8"))
        page = (ROOT / "roles/prometheus/files/consoles" / f"{path.stem}.html").read_text(encoding="utf-8")
        panels = [panel for panel in board["panels"] if panel["type"] == "timeseries"]
        assert len(panels) == page.count("<figure ") >= 4


def test_prometheus_can_read_every_query(tmp_path: Path) -> None:
    """As recording rules, which promtool of any version parses."""
    found = [query for path in DASHBOARDS for query in queries(json.loads(path.read_text(encoding="utf-8")))]
    assert len(found) > 20
    rules = [{"record": f"query:{number}", "expr": query} for number, query in enumerate(found)]
    path = tmp_path / "rules.yml"
    path.write_text(json.dumps({"groups": [{"name": "queries", "rules": rules}]}), encoding="utf-8")
    promtool = str(Path(sys.executable).with_name("promtool"))
    done = subprocess.run([promtool, "check", "rules", str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", [*CONSOLES, *DASHBOARDS], ids=lambda path: path.name)
def test_what_is_drawn_from_rules_is_recorded_by_one(path: Path) -> None:
    used = set(re.findall(r"\b[a-z_]+:[a-z_]+:[a-z0-9_]+", path.read_text(encoding="utf-8")))
    assert used <= RECORDED


@pytest.mark.parametrize("path", CONSOLES, ids=lambda path: path.name)
def test_a_console_loads_nothing_from_elsewhere(path: Path) -> None:
    text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"(?:https?:)?//[a-z]|\bimport\b|@import|<link|src=", text)


def _written() -> set[str]:
    """The names of all figures that this project's own exporters write, and its tools on hosts for node_exporter."""
    exporter = "".join(file.read_text(encoding="utf-8") for file in files_of("src/app_exporter/*.py"))
    tools = "".join(
        path.read_text(encoding="utf-8")
        for role in ("pgbackrest", "files_backup")
        for path in files_of(f"roles/{role}/files/*-*")
    )
    columns = {
        f"{query}_{name}"
        for query, wanted in load(ROOT / "roles/postgres_exporter/files/queries.yml").items()
        for column in wanted["metrics"]
        for name in column
    }
    return set(re.findall(r'"([a-z][a-z0-9_]+)"', exporter)) | set(re.findall(r"\bpraetor_[a-z0-9_]+", tools)) | columns


@pytest.mark.parametrize(
    "path", [*CONSOLES, *DASHBOARDS, *files_of("roles/prometheus/files/rules/*.yml")], ids=lambda path: path.name
)
def test_what_is_asked_of_exporters_is_what_they_have(path: Path) -> None:
    names = re.findall(r"\b(?:praetor|uwsgi|nginx_site|app_exporter)_[a-z0-9_]+", path.read_text(encoding="utf-8"))
    asked = {re.sub(r"_(bucket|count|sum)$", "", name) for name in names}
    assert asked <= _written()
