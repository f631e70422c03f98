"""Hosts that are away when a run begins, that it leaves out, and that come back with what they served before."""

import re
from pathlib import Path
from typing import Any

import pytest
from project import ansible

from praetor.run import away, notes, tables

TIMED_OUT = "ssh: connect to host 198.18.0.18 port 22: Connection timed out"


@pytest.mark.parametrize(
    ("said", "found"),
    [
        (
            f'Data could not be sent to remote host "198.18.0.18". Make sure this host can be reached over ssh: {TIMED_OUT}\r\n',
            "connect to host 198.18.0.18 port 22: Connection timed out",
        ),
        (
            "mux_client_request_session: read from master failed: Broken pipe\r\nssh: connect to host h8 port 22: No route to host",
            "connect to host h8 port 22: No route to host",
        ),
        (
            "Failed to connect to the host via ssh: ssh: Could not resolve hostname h8: Name or service not known",
            "Could not resolve hostname h8: Name or service not known",
        ),
        (
            "Failed to connect to the host via ssh: ops@h8: Permission denied (publickey).",
            "ops@h8: Permission denied (publickey).",
        ),
        (
            "@@@\r\nWARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!\r\n@@@\r\nHost key verification failed.",
            "its host key is not the one that this controller knows, so another machine is at its address",
        ),
        (
            "No ED25519 host key is known for h8 and you have requested strict checking.\nHost key verification failed.",
            "its host key is not known to this controller",
        ),
        ("", "no reason was given"),
    ],
)
def test_the_cause_is_taken_out_of_what_ssh_says(said: str, found: str) -> None:
    assert away.reason(said).startswith(found)


def app(live: str | None, made_live_by: str | None, **more: Any) -> Any:
    return {"apps": {"api": {"live": live, "made_live_by": made_live_by, **more}}}


def test_nothing_is_refused_while_all_hosts_answer() -> None:
    assert away.refusal({"h1": app("1-a", "run1")}) == ""


def test_a_host_that_is_away_is_named_with_the_reason_and_both_ways_on() -> None:
    surveys: Any = {"h1": app("1-a", "run1"), "h8": {"away": "Connection timed out"}}
    said = away.refusal(surveys)
    assert "h8 does not answer: Connection timed out" in said
    assert "Nothing was changed" in said
    assert "1. Wait for h8" in said
    assert "with --limit '!h8'." in said
    assert "--limit h8 then brings" in said


def test_a_limit_that_was_given_is_kept() -> None:
    surveys: Any = {"h1": app("1-a", "run1"), "h8": {"away": "x"}, "h9": {"away": "y"}}
    assert "--limit 'web,!h8,!h9'" in away.refusal(surveys, "web")


def test_where_no_host_answers_none_can_be_left_behind() -> None:
    assert "--limit" not in away.refusal({"h8": {"away": "x"}})


def test_hosts_that_a_run_leaves_out_are_few_in_its_history() -> None:
    hosts = [f"h{number}" for number in range(30)]
    assert away.left_out(hosts, hosts[1:]) == ["h0"]
    assert away.left_out(hosts, hosts) == []
    assert away.left_out(hosts, [])[-2:] == ["h19", "10 more"]


def test_a_host_that_comes_back_with_an_old_release_is_behind() -> None:
    surveys: Any = {
        "h1": app("2-b", "20260102T000000Z-aa"),
        "h2": app("2-b", "20260102T000000Z-aa"),
        "h8": app("1-a", "20260101T000000Z-zz"),
        "h9": {"away": "Connection timed out"},
    }
    assert away.latest("api", surveys) == ("h1", "2-b")
    assert away.behind("api", surveys) == ["h8"]


def test_after_a_rollback_the_host_with_the_higher_version_is_behind() -> None:
    surveys: Any = {"h1": app("1-a", "20260103T000000Z-aa"), "h8": app("2-b", "20260102T000000Z-zz")}
    assert away.behind("api", surveys) == ["h8"]


def test_a_host_without_any_release_is_behind_and_a_flip_that_was_not_settled_sets_no_example() -> None:
    surveys: Any = {"h1": app("2-b", None), "h2": app("1-a", "20260101T000000Z-aa"), "h3": app(None, None)}
    assert away.behind("api", surveys) == ["h1", "h3"]
    assert away.behind("api", {"h3": app(None, None)}) == []


def test_the_status_shows_who_is_behind_and_the_whole_reason_of_who_is_away() -> None:
    healthy: dict[str, Any] = {
        "since": "2026-01-01T00:00:00Z",
        "workers": 2,
        "busy": 0,
        "provisioned": True,
        "health": "healthy",
        "running": True,
        "journal": None,
        "leftovers": [],
        "frozen": None,
        "manifest": None,
        "outdated": [],
        "share": {},
        "processes": [],
        "jobs": [],
        "slot": "api.1-a.1",
        "path": "/health",
        "settled": True,
    }
    long = "connect to host a.host.with.a.very.long.name.in.a.zone.of.its.own.example.org port 22: Connection timed out"
    surveys: Any = {
        "h1": app("2-b", "20260102T000000Z-aa", **healthy),
        "h8": app("1-a", "20260101T000000Z-zz", **healthy),
        "h9": {"away": long},
    }
    rows = {row["host"]: row["health"] for row in tables.status(surveys)}
    assert rows == {"h1": "healthy", "h8": "healthy, behind", "h9": f"no answer: {long}"}
    assert any("h8: behind" in note and "--limit h8" in note for note in notes.notes(surveys))


def test_the_history_says_which_hosts_a_run_left_out() -> None:
    entry = {"ts": "2026-01-01T00:00:00Z", "action": "release", "why": "fix", "without": ["h8"]}
    surveys: Any = {"h1": {"apps": {"api": {"history": [entry]}}}}
    assert tables.history(surveys)[0]["why"] == "without h8: fix"


@pytest.fixture
def nobody(tmp_path: Path) -> Path:
    """Return an inventory of two hosts at an address where nothing answers."""
    hosts = "app_hosts: {hosts: {h7: {}, h8: {}}, vars: {ansible_host: 127.0.0.1, ansible_port: 1}}\n"
    (tmp_path / "hosts.yml").write_text(hosts)
    (tmp_path / "group_vars/all").mkdir(parents=True)
    app_of_it = "{name: api, source: {package: flask==3.1.0}, wsgi: api.wsgi:app, server_names: [api.example.org]}"
    (tmp_path / "group_vars/all/apps.yml").write_text(f"apps: [{app_of_it}]\n")
    return tmp_path


def test_status_says_of_each_host_that_is_away_why(nobody: Path) -> None:
    done = ansible("ansible-playbook", "playbooks/status.yml", "-i", str(nobody))
    assert done.returncode == 0, done.stdout + done.stderr
    rows = re.findall(
        r"^! (h\d) .*no answer: connect to host 127.0.0.1 port 1: Connection refused$", done.stdout, re.MULTILINE
    )
    assert rows == ["h7", "h8"]
    assert "UNREACHABLE" not in done.stdout + done.stderr


@pytest.mark.parametrize("playbook", ["rollback", "refresh"])
def test_a_run_is_refused_in_the_words_of_the_project(nobody: Path, playbook: str) -> None:
    done = ansible("ansible-playbook", f"playbooks/{playbook}.yml", "-i", str(nobody))
    assert done.returncode == 2, done.stdout + done.stderr
    said = done.stdout + done.stderr
    assert "h8 does not answer: connect to host 127.0.0.1 port 1: Connection refused" in said
    assert "1. Wait for h7, h8" in said
    assert "UNREACHABLE" not in said


@pytest.mark.parametrize(
    ("known", "there", "words"),
    [
        (["h1", "h2", "h3"], ["h1", "h2"], "h3: the last run of api knew it, and the inventory does not"),
        (["h1", "h2", "h3"], ["h1"], "h2, h3: the last run"),
        (["h1"], ["h1", "h2"], ""),
        (["h1", "old", "3 more"], ["h1"], "old: the last run"),
        (["h1", "3 more"], ["h1"], ""),
        ([], ["h1"], ""),
    ],
)
def test_a_host_that_left_the_inventory_is_named(known: list[str], there: list[str], words: str) -> None:
    surveys: Any = {"h1": app("1-a", "run2", made_live_on=known), "h2": app("1-a", "run1", made_live_on=["older"])}
    said = away.gone("api", surveys, there)
    assert words in said if words else said == ""


def test_what_an_earlier_version_left_names_nobody() -> None:
    assert away.gone("api", {"h1": app("1-a", "run1")}, ["h1"]) == ""


def test_hosts_of_a_limited_run_get_what_the_last_run_made_live_elsewhere() -> None:
    new, old = "20260102T000000Z-aa", "20260101T000000Z-zz"
    others = {"h1": app("2-b", new), "h2": {"away": "x"}}
    behind: Any = {"h8": {**app("1-a", old), "python": "cp311"}, "h9": {**app(None, None), "python": "cp313"}}
    expected = {"app": "api", "release": "2-b", "host": "h1", "behind": ["h8", "h9"], "tags": ["cp311", "cp313"]}
    assert away.to_catch_up(behind, others) == [expected]


@pytest.mark.parametrize(
    "others",
    [{"h1": app("1-a", "20260101T000000Z-aa")}, {"h1": {"away": "x"}}, {"h1": app(None, None)}, {}],
    ids=["they are behind", "away", "new", "none"],
)
def test_a_limited_run_that_is_not_behind_releases_what_the_tree_holds(others: dict[str, Any]) -> None:
    surveys: Any = {"h8": {**app("2-b", "20260102T000000Z-aa"), "python": "cp311"}}
    assert away.to_catch_up(surveys, others) == []
