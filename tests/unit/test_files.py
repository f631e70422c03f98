"""What roles write on hosts, named by the filters that put it together."""

import json
from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from project import ROOT, imported

FILES = imported("plugins/filter/files.py")


def test_a_folders_files_come_with_their_whole_text(tmp_path: Path) -> None:
    (tmp_path / "b.yml").write_text("two\n\n", encoding="utf-8")
    (tmp_path / "a.yml").write_text("one", encoding="utf-8")
    (tmp_path / "c.txt").write_text("no rule", encoding="utf-8")
    (tmp_path / "d.yml").mkdir()
    assert FILES.files_in(str(tmp_path), "/etc/x", "*.yml") == {"/etc/x/a.yml": "one", "/etc/x/b.yml": "two\n\n"}
    with pytest.raises(AnsibleFilterError, match=r"found no file like \*\.html"):
        FILES.files_in(str(tmp_path), "/etc/x", "*.html")


def test_alerts_wait_as_long_as_their_rules_say_or_as_they_are_told() -> None:
    rules = {"/r.yml": "  - alert: A\n    for: 5m\n    labels: {for: x}\n  - alert: B\n    for: 1h\n"}
    assert FILES.alerts_after(rules, -1) == rules
    assert FILES.alerts_after(rules, "7") == {"/r.yml": rules["/r.yml"].replace("5m", "7s").replace("1h", "7s")}


def test_every_alert_of_the_project_can_be_told_to_wait() -> None:
    rules = FILES.files_in(str(ROOT / "roles/prometheus/files/rules"), "/rules", "*.yml")
    for place, text in FILES.alerts_after(rules, 7).items():
        assert text.count("for: 7s") == sum(line.strip().startswith("for:") for line in rules[place].splitlines())


def test_nothing_to_judge_asks_no_program() -> None:
    assert FILES.checked_by([], ["promtool"]) == []
    assert FILES.checked_by(["/a", "/b"], ["promtool", "check"]) == [["promtool", "check", "%s/a", "%s/b"]]


def test_each_job_has_a_file_of_targets() -> None:
    jobs: list[dict[str, Any]] = [
        {"name": "node", "targets": [{"targets": ["h:1"], "labels": {"b": "2", "a": "1"}}]},
        {"name": "x", "targets": []},
    ]
    found = FILES.target_files(jobs, "/t")
    assert list(found) == ["/t/node.json", "/t/x.json"]
    assert json.loads(found["/t/node.json"]) == jobs[0]["targets"]


def test_receivers_find_their_secrets_by_number() -> None:
    emails = [{"to": "a", "password": "p0"}, {"to": "b"}]
    assert FILES.alertmanager_secrets(emails, ["https://hook"]) == {
        "webhook_url_0": "https://hook",
        "email_password_0": "p0",
        "email_password_1": "",
    }
    assert FILES.below(["x", "y"], "/s") == ["/s/x", "/s/y"]
    assert FILES.texts_below({"x": "text"}, "/s") == {"/s/x": "text"}


def test_haproxy_finds_a_key_next_to_its_certificate() -> None:
    pairs = [
        {"name": ".metrics", "certificate": "/m.pem", "key": "/m.key"},
        {"name": "api", "certificate": "/a", "key": "/k"},
    ]
    assert FILES.certificate_links(pairs) == [
        [".metrics.pem", "/m.pem"],
        ["api.pem", "/a"],
        [".metrics.pem.key", "/m.key"],
        ["api.pem.key", "/k"],
    ]
    assert FILES.allowed_lists(pairs[1:]) == ["allowed_api.lst"]
    assert FILES.certificate_links([]) == FILES.allowed_lists([]) == []
