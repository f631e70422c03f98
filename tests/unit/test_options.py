"""What `-e` says is an option of the playbook, an input of a role or the inventory's own; anything else is refused before a host is contacted."""

import shlex
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest
from ansible.parsing.splitter import parse_kv
from project import ansible

from praetor.run.options import PLAYBOOKS, Option, mistakes, options_of, unquoted, usage, variables_in

INPUTS = ["nginx_client_rate", "certificates_mode"]


INVENTORY = {"apps": ["api", "shop"], "app_hosts": ["app1", "app2"], "database_hosts": ["db1", "db2"]}


def said(playbook: str, mentioned: Collection[str] = (), **given: Any) -> str:
    """Return what is wrong with options."""
    return "\n".join(mistakes(given, [playbook], INPUTS, mentioned, INVENTORY))


def test_what_a_playbook_has_and_what_roles_have_is_taken() -> None:
    assert said("release", app="api", lock_wait="600", force=True, nginx_client_rate=5, ansible_user="ops") == ""


@pytest.mark.parametrize(
    ("playbook", "given", "meant"),
    [
        ("build", {"ap": "shop"}, "did you mean app?"),
        ("rollback", {"relese": "1.0-ab"}, "did you mean release?"),
        ("release", {"nginx_client_rat": 1}, "did you mean nginx_client_rate?"),
        (
            "status",
            {"lock_wait": 1},
            "it is an option of deploy.yml, drain.yml, maintain.yml, refresh.yml, release.yml, rollback.yml, undrain.yml",
        ),
        ("build", {"relese": 1}, "release is an option of deploy.yml, release.yml, rollback.yml"),
        ("check", {"zzzzz": 1}, "expected one of: help"),
    ],
)
def test_what_nothing_reads_is_refused_with_what_is_meant(playbook: str, given: dict[str, Any], meant: str) -> None:
    [(name, value)] = given.items()
    words = said(playbook, **given)
    assert words.startswith(f"-e {name}={value}: {playbook}.yml has no such option and no role has such an input; ")
    assert words.endswith(meant)


@pytest.mark.parametrize("value", ["two words", "it's new", "2026-11-25 03:00", "flask --app shop.wsgi a=b"])
def test_a_value_with_spaces_is_told_how_to_be_quoted_so_that_ansible_takes_it(value: str) -> None:
    words = unquoted(f"why={value}")
    assert words.startswith(f"-e why={value}: found a space without quotes around it, expected -e why=")
    _, typed = shlex.split(words.partition("expected ")[2])
    assert parse_kv(typed) == {"why": value}


def test_an_option_without_a_value_is_told_so() -> None:
    assert unquoted("force") == "-e force: found no value, expected -e NAME=VALUE"


def test_what_the_inventory_speaks_of_is_its_own_business() -> None:
    text = "---\n# app: of all\nown: 1\napps:\n  - name: api\n    source: {path: '{{ sample_source }}'}\n"
    named = variables_in(text, of_hosts=False)
    assert said("release", named, sample_source="x", own=2) == ""
    for name in ("sample", "path", "all", "name"):
        assert f"-e {name}=x: release.yml has no such option" in said("release", named, **{name: "x"})


@pytest.mark.parametrize(
    "text",
    ["app_hosts: {hosts: {app1: {rack: a1}}}", "app_hosts:\n  vars:\n    rack: a1\n", "[app_hosts]\napp1 rack=a1\n"],
)
def test_a_variable_of_a_list_of_hosts_is_one_at_any_depth(text: str) -> None:
    named = variables_in(text, of_hosts=True)
    assert said("check", named, rack="b2") == ""
    assert said("check", named, hall="b2") != ""


@pytest.mark.parametrize(
    ("playbook", "name", "option"),
    [
        (playbook, name, option)
        for playbook, options in PLAYBOOKS.items()
        for name, option in options.items()
        if option.of or option.needed
    ],
)
def test_what_the_inventory_does_not_have_and_what_is_missing_is_refused(
    playbook: str, name: str, option: Option
) -> None:
    known = INVENTORY.get(option.of, [])
    right = {other: (INVENTORY.get(each.of) or ["x"])[0] for other, each in PLAYBOOKS[playbook].items() if each.needed}
    assert said(playbook, **right) == ""
    missing = said(playbook, **{other: value for other, value in right.items() if other != name})
    assert missing.startswith(f"-e {name}: found none, expected -e {name}=..." if option.needed else "")
    assert bool(missing) == option.needed
    if known:
        words = said(playbook, **{**right, name: "nowhere"})
        assert words.startswith(f"-e {name}=nowhere: the inventory has no such ")
        assert words.endswith(f", expected one of: {', '.join(known)}")


def test_what_is_named_as_an_app_or_a_host_is_looked_for_in_the_inventory() -> None:
    # One that is gone, groups too, hosts of several groups, one that is no longer there: these playbooks look themselves.
    look = {("logs", "host"), ("maintain", "host"), ("restore", "host"), ("remove", "app")}
    named = {"app": "apps", "host": "app_hosts", "to": "app_hosts", "dead": "app_hosts"}
    for playbook, options in PLAYBOOKS.items():
        for name in named.keys() & options.keys():
            expected = "" if (playbook, name) in look else named[name]
            assert options[name].of in {expected, "database_hosts"}, (playbook, name)
            assert bool(options[name].of) == bool(expected), (playbook, name)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"lock_wait": "soon"}, "-e lock_wait=soon: expected a whole number"),
        ({"force": "maybe"}, "-e force=maybe: expected true or false"),
    ],
)
def test_a_value_of_another_kind_is_refused(given: dict[str, Any], expected: str) -> None:
    assert said("release", **given) == expected


def test_a_value_that_is_none_of_the_few_is_refused() -> None:
    assert said("status", format="xml") == "-e format=xml: expected table or json"


def test_a_playbook_that_imports_ours_takes_all_their_options() -> None:
    assert options_of(["converge"]).keys() == {"help"} | {name for each in PLAYBOOKS.values() for name in each}


def test_help_names_every_option_of_a_playbook() -> None:
    for playbook, options in PLAYBOOKS.items():
        assert all(f"-e {name}=..." in usage([playbook]) for name in options)


def test_an_unknown_option_ends_a_run_before_anything_is_built() -> None:
    done = ansible("ansible-playbook", "playbooks/build.yml", "-i", "inventories/prod", "-e", "ap=shop")
    assert done.returncode != 0
    assert "-e ap=shop: build.yml has no such option and no role has such an input; did you mean app?" in done.stdout
    assert "Build on the controller" not in done.stdout


def test_an_app_or_a_host_that_is_not_there_ends_a_run_before_a_host_is_contacted() -> None:
    asked = ["ansible-playbook", "-i", "inventories/prod"]
    for playbook, option, expected in [
        ("freeze", "app=shop", "-e app=shop: the inventory has no such app, expected one of: api"),
        (
            "drain",
            "host=web9",
            "-e host=web9: the inventory has no such host in app_hosts, expected one of: prod1, prod2",
        ),
    ]:
        done = ansible(*asked, f"playbooks/{playbook}.yml", "-e", option)
        assert expected in done.stdout
        assert "prod1  ok=0 changed=0 failed=1" in done.stdout
        assert "prod2" not in done.stdout.partition("in playbooks/check.yml")[2]
        assert done.returncode


@pytest.mark.parametrize("playbook", ["drill", "failover", "rejoin", "restore", "switchover"])
def test_a_playbook_for_hosts_that_an_inventory_does_not_have_says_so(tmp_path: Path, playbook: str) -> None:
    (tmp_path / "hosts.yml").write_text("app_hosts: {hosts: {app1: {}}}\n", encoding="utf-8")
    asked = ["ansible-playbook", f"playbooks/{playbook}.yml", "-i", str(tmp_path)]
    wrong, right = (
        ansible(*asked, "-e", "ap=shop"),
        ansible(*asked, *(["-e", "host=app1"] if playbook == "restore" else [])),
    )
    assert "-e ap=shop" in wrong.stdout + wrong.stderr
    assert "This inventory has no host in the group" in right.stdout + right.stderr
    assert wrong.returncode
    assert right.returncode
