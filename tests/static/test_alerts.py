"""The alerts: each is tested both ways by promtool, tells an operator what to do, and has a runbook."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from project import ROOT, files_of, load

RULES = files_of("roles/prometheus/files/rules/*.yml")
TESTS = files_of("roles/prometheus/tests/*.yml")
RUNBOOKS = files_of("docs/runbooks/*.md")

ALL = [rule for path in RULES for group in load(path)["groups"] for rule in group["rules"]]
ALERTS = [rule for rule in ALL if "alert" in rule]
NAMES = sorted({rule["alert"] for rule in ALERTS})
CASES = {case["name"]: case for path in TESTS for case in load(path)["tests"]}


def promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Prometheus' own checker, which `make unit` provides."""
    return subprocess.run(
        [str(Path(sys.executable).with_name("promtool")), *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )


def cases(name: str, kind: str) -> list[dict[str, Any]]:
    """Return an alert's tests of one kind, `fires` or `is silent`."""
    return [case for title, case in CASES.items() if title.startswith(f"{name} {kind}: ")]


def fired(case: dict[str, Any], name: str) -> list[str]:
    """Return the labels of the alerts that a test expects, each as PromQL writes them."""
    asked = f'ALERTS{{alertname="{name}",alertstate="firing"}}'
    tests = [test for test in case.get("promql_expr_test", []) if test["expr"] == asked]
    return [sample["labels"] for test in tests for sample in test["exp_samples"]]


def test_prometheus_accepts_the_rules() -> None:
    done = promtool("check", "rules", *map(str, RULES))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", [path.name for path in TESTS])
def test_rules_do_what_their_tests_say(path: str) -> None:
    done = promtool("test", "rules", f"roles/prometheus/tests/{path}")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", NAMES)
def test_an_alert_is_tested_to_fire_and_to_be_silent(name: str) -> None:
    severities = {rule["labels"]["severity"] for rule in ALERTS if rule["alert"] == name}
    seen = [labels for case in cases(name, "fires") for labels in fired(case, name)]
    assert {
        severity for severity in severities if any(f'severity="{severity}"' in labels for labels in seen)
    } == severities, (
        f"""roles/prometheus/tests/: a case "{name} fires: ..." expects ALERTS{{alertname="{name}",alertstate="firing"}}"""
    )
    silent = cases(name, "is silent")
    assert silent, f"""roles/prometheus/tests/: a case "{name} is silent: ..." expects no alert"""
    for case in silent:
        at_alert = [test for test in case.get("alert_rule_test", []) if test["alertname"] == name]
        at_series = [test for test in case.get("promql_expr_test", []) if f'alertname="{name}"' in test["expr"]]
        assert at_alert or at_series
        assert not any(test.get("exp_alerts") for test in at_alert)
        assert not any(test["exp_samples"] for test in at_series)


def test_no_test_is_of_an_alert_that_is_gone() -> None:
    assert {re.split(" fires: | is silent: ", title)[0] for title in CASES} == set(NAMES)


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: f"{rule['alert']}-{rule['labels']['severity']}")
def test_an_alert_says_what_happened_what_serves_and_what_to_type(rule: dict[str, Any]) -> None:
    said = rule["annotations"]
    assert set(said) == {"summary", "description", "runbook"}
    assert rule["labels"]["severity"] in {"page", "ticket"}
    assert len(said["summary"]) <= 140
    serves = "serv|answer|not touched|nobody hears"
    assert re.search(serves, said["description"], re.IGNORECASE), f"what still serves, in one of the words {serves}"
    typed = "ansible-playbook playbooks/|systemctl|journalctl|du -x|/var/log/nginx"
    assert re.search(typed, said["description"]), f"what to type; known here are {typed}"
    for playbook in re.findall(r"playbooks/[a-z_]+\.yml", said["description"]):
        assert (ROOT / playbook).exists()
    assert said["runbook"] == f"docs/runbooks/{rule['alert']}.md"


@pytest.mark.parametrize("name", NAMES)
def test_an_alert_names_only_labels_that_it_has(name: str) -> None:
    fires = [labels for case in cases(name, "fires") for labels in fired(case, name)]
    has = {label for labels in fires for label in re.findall(r"(\w+)=\"", labels)}
    for rule in ALERTS:
        if rule["alert"] == name:
            assert set(re.findall(r"\$labels\.(\w+)", str(rule["annotations"]))) <= has


def test_the_texts_of_alerts_can_be_written(tmp_path: Path) -> None:
    """Ask promtool for every alert at the time that its test sees it, expect none, and read what it got instead."""
    for path in TESTS:
        text = load(path)
        text["rule_files"] = [str(ROOT / "roles/prometheus/files/rules/*.yml")]
        for case in text["tests"]:
            name = re.split(" fires: | is silent: ", case["name"])[0]
            times = [test["eval_time"] for test in case.get("promql_expr_test", []) if fired(case, name)]
            case["alert_rule_test"] = [{"eval_time": time, "alertname": name} for time in times]
            case.pop("promql_expr_test", None)
        text["tests"] = [case for case in text["tests"] if case["alert_rule_test"]]
        (tmp_path / path.name).write_text(json.dumps(text), encoding="utf-8")
    done = promtool("test", "rules", *map(str, tmp_path.glob("*.yml")))
    said = done.stdout + done.stderr
    got = {name for name in NAMES if f'alertname="{name}"' in said}
    assert got == set(NAMES), said
    assert not re.search(r"error expanding|<no value>|%!", said), said


def test_every_alert_has_a_runbook_and_every_runbook_an_alert() -> None:
    assert [path.stem for path in RUNBOOKS if path.stem != "README"] == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_runbook_says_what_it_means_where_to_look_and_what_to_do(name: str) -> None:
    place = ROOT / "docs" / "runbooks" / f"{name}.md"
    assert place in RUNBOOKS, f"docs/runbooks/{name}.md is not there"
    text = place.read_text(encoding="utf-8")
    assert text.startswith(f"# {name}\n")
    assert re.findall(r"^## (.*)", text, re.MULTILINE) == ["What it means", "Look here", "Do this"]
    assert len(text.splitlines()) <= 45
    assert "    " in text.partition("## Look here")[2].partition("## Do this")[0], "a command"
