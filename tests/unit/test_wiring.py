"""What the playbooks connect: filters that turn one role's knowledge into another's input, and the module that installs."""

import os
from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from project import ROOT, imported, options

from praetor.host import current_unit, debian_packages, text_files
from praetor.host.layout import ReleaseError

HTTP = {"compress": True, "stream_s": 600, "paths": [], "headers": {}, "access": None, "directives": None}
APP = {
    "name": "api",
    "wsgi": "api:app",
    "server_names": ["a.example", "b.example"],
    "redirect_names": [],
    "health": {"path": "/up", "status": 200},
    "mount": "",
    "static": {},
    "limits": {"request_s": 12, "body_mb": 3},
    "http": HTTP,
}


def test_every_app_becomes_a_site_with_its_own_limits() -> None:
    filters = imported("plugins/filter/wiring.py").FilterModule().filters()
    sites = filters["first_sites"]([APP], tls=True)
    [text] = sites.values()
    assert list(sites) == ["/etc/nginx/sites/api.conf"]
    assert text.count("server_name a.example b.example;") == 2
    assert "client_max_body_size 3m;" in text
    assert "fastcgi_read_timeout 17s;" in text
    assert "ssl_certificate /etc/praetor/tls/sites/api/fullchain.pem;" in text
    assert "syslog" not in text
    assert filters["longest_request_s"]([APP, APP | {"limits": {"request_s": 300}}]) == 300
    report = {"path": "/report", "request_s": 400, "body_mb": None, "stream": False}
    assert filters["longest_request_s"]([APP | {"http": HTTP | {"paths": [report]}}]) == 400


def test_plays_are_for_whom_there_is_something_to_do() -> None:
    filters = imported("plugins/filter/wiring.py").FilterModule().filters()
    hosts = {"app_hosts": ["app1", "app2"], "database_hosts": ["db1"], "redis_hosts": ["queue1"]}
    sized: dict[str, Any] = APP | {"workers": 2, "threads": 2, "database": None, "redis": None}
    database: dict[str, Any] = {"name": None, "connections": None, "extensions": []}
    cache = {"queue": False, "cache": True, "queue_mb": 256, "cache_mb": 128, "port": None}

    def stateful(*apps: dict[str, Any]) -> list[str]:
        return list(filters["stateful"](hosts, {"app2": {"__apps": {"apps": list(apps)}}}))

    assert stateful(sized) == []
    assert stateful(sized, sized | {"name": "shop", "database": database}) == hosts["app_hosts"]
    assert stateful(sized | {"redis": cache}) == hosts["app_hosts"]
    # While Ansible looks at the syntax there are no variables, and hosts that were refused have no apps.
    assert filters["stateful"](hosts, {}) == filters["stateful"](hosts, {"app1": {"__apps": {"failed": True}}}) == []
    planned = {"app1": {}, "app2": {"__plan": {"travel": ["app1", "app2"], "tell": []}}}
    assert filters["planned"](hosts, planned, "travel") == ["app1", "app2"]
    assert filters["planned"](hosts, planned, "tell") == filters["planned"](hosts, {}, "tell") == []


def test_how_long_a_stop_of_nginx_takes_is_read_from_what_the_role_writes() -> None:
    waits_s = imported("plugins/filter/wiring.py").FilterModule().filters()["nginx_waits_s"]
    [line] = [
        line
        for line in (ROOT / "roles/nginx/templates/nginx.conf.j2").read_text().splitlines()
        if "A stop waits" in line
    ]
    assert waits_s(f"user x;\n{line.replace('{{ __nginx_longest_s }}', '70')}\n") == 70
    with pytest.raises(AnsibleFilterError, match="found no line"):
        waits_s("user x;")


def test_a_site_without_tls_is_one_server() -> None:
    [text] = imported("plugins/filter/wiring.py").first_sites([APP], tls=False).values()
    assert text.count("server {") == 1
    assert "ssl" not in text
    assert "/var/log/nginx/api.access.log site_json buffer=4k flush=1s if=$site_logged;" in text


def test_a_survey_asks_for_all_apps_or_for_one_that_exists() -> None:
    survey_targets = imported("plugins/filter/wiring.py").FilterModule().filters()["survey_targets"]
    apps = [
        {"name": "api", "server_names": ["a.example", "b.example"]},
        {"name": "shop", "server_names": ["c.example"]},
    ]
    assert survey_targets(apps) == {"api": "a.example", "shop": "c.example"}
    assert survey_targets(apps, "shop") == {"shop": "c.example"}
    with pytest.raises(AnsibleFilterError, match=r"app=shp: .* expected one of: api, shop"):
        survey_targets(apps, "shp")


def allowed(host: str, monitoring: list[str]) -> dict[int, Any]:
    """Return the sources of each port that the playbooks open on a host of two app hosts; none for everyone."""
    wiring = imported("plugins/filter/wiring.py")
    variables = {"app1": {"ansible_host": "192.0.2.1"}, "app2": {"ansible_host": "2001:db8::2"}, "mon1": {}}
    variables["mon1"]["ansible_host"] = "192.0.2.13"
    groups = {"app_hosts": ["app1", "app2"], **({"monitoring_hosts": monitoring} if monitoring else {})}
    rules = wiring.FilterModule().filters()["firewall_allow"](host, groups, variables)
    for rule in rules:
        assert rule.keys() <= options("firewall")["firewall_allow"]["options"].keys()
    return {port: rule.get("from") for rule in rules for port in rule["ports"]}


def test_an_app_host_takes_sites_from_all_and_questions_from_monitoring_hosts_and_other_app_hosts_only() -> None:
    assert allowed("app1", []) == {80: None, 443: None, 9443: ["2001:db8::2"]}
    assert allowed("app1", ["mon1"]) == {80: None, 443: None, 9443: ["192.0.2.13", "2001:db8::2"]}


def test_a_monitoring_host_takes_logs_from_app_hosts_and_serves_no_sites() -> None:
    assert allowed("mon1", ["mon1"]) == {9443: ["192.0.2.13"], 19532: ["192.0.2.1", "2001:db8::2"]}


def test_a_host_name_without_an_address_is_refused_for_the_firewall() -> None:
    wiring = imported("plugins/filter/wiring.py")
    with pytest.raises(
        AnsibleFilterError, match=r"^mon1: the firewall needs its address, and nowhere\.invalid has none"
    ):
        wiring.addresses(["mon1"], {"mon1": {"ansible_host": "nowhere.invalid"}})


@pytest.mark.parametrize(
    ("installed", "expected"),
    [
        (set(), ["nginx", "systemd-timesyncd"]),
        ({"nginx"}, ["systemd-timesyncd"]),
        ({"nginx", "chrony"}, []),
        ({"nginx", "systemd-timesyncd"}, []),
    ],
)
def test_either_alternative_is_enough_and_the_first_is_installed(installed: set[str], expected: list[str]) -> None:
    assert debian_packages.missing(["nginx", "systemd-timesyncd | chrony|ntpsec"], installed) == expected


def test_a_package_that_is_half_installed_or_removed_is_missing() -> None:
    text = "installed nginx\nhalf-configured logrotate\nconfig-files chrony\nunpacked dbus\ninstalled procps\n"
    assert debian_packages.parse_status(text) == {"nginx", "procps"}


def shown(**changes: str) -> dict[str, str]:
    """Return what systemd says about a unit that was started at 12:00:10.5 and reloaded at 12:00:20.5."""
    text = (
        "LoadState=loaded\nUnitFileState=enabled\nActiveState=active\n"
        "ActiveEnterTimestamp=Sun 2026-11-22 12:00:10.500000 UTC\nStateChangeTimestamp=Sun 2026-11-22 12:00:20.500000 UTC\n"
    )
    return {**current_unit.parse_show(text), **changes}


NOON = 1795348800.0


@pytest.mark.parametrize(
    ("changes", "restart_on", "reload_on", "expected"),
    [
        ({}, [NOON], [NOON + 20.4], []),
        ({}, [NOON + 10.4], [], []),
        ({}, [NOON, NOON + 10.6], [], ["restart"]),
        ({}, [NOON], [NOON + 20.6], ["reload"]),
        ({}, [NOON + 30], [NOON + 30], ["restart"]),
        ({"ActiveState": "failed"}, [NOON + 30], [NOON + 30], ["start"]),
        ({"ActiveState": "reloading"}, [NOON], [NOON], []),
        ({"UnitFileState": "disabled"}, [NOON], [], ["enable"]),
        (
            {"UnitFileState": "", "ActiveState": "inactive", "ActiveEnterTimestamp": "", "StateChangeTimestamp": "n/a"},
            [],
            [],
            ["enable", "start"],
        ),
    ],
)
def test_a_unit_is_restarted_or_reloaded_for_files_it_does_not_know_yet(
    changes: dict[str, str], restart_on: list[float], reload_on: list[float], expected: list[str]
) -> None:
    assert current_unit.decide(shown(**changes), restart_on, reload_on) == expected


@pytest.mark.parametrize(("retries", "expected"), [(True, []), (False, ["start"])])
def test_a_unit_that_waits_for_another_host_is_up_if_it_may(*, retries: bool, expected: list[str]) -> None:
    assert current_unit.decide(shown(ActiveState="activating"), [NOON], [], retries=retries) == expected
    assert current_unit.decide(shown(ActiveState="failed"), [NOON], [], retries=retries) == ["start"]


def test_text_files_are_written_only_where_they_differ_and_strays_are_removed(tmp_path: Path) -> None:
    place = tmp_path / "new" / "package"
    files = {str(place / "a.py"): "a\n", str(place / "b.py"): "b\n", str(tmp_path / "unit"): "u\n"}
    planned = text_files.apply(files, [str(place)], dry=True)
    assert planned["written"] == sorted(files)
    assert not place.exists()
    text_files.apply(files, [str(place)], dry=False)
    assert {path: Path(path).read_text() for path in files} == files
    assert (place / "a.py").stat().st_mode & 0o777 == 0o644
    assert text_files.apply(files, [str(place)], dry=False) == {"written": [], "removed": [], "diff": []}
    (place / "__pycache__").mkdir()
    (place / "__pycache__" / "old.pyc").write_text("")
    (place / "old.py").write_text("")
    (place / "a.py").chmod(0o666)
    (place / "b.py").write_text("other\n")
    done = text_files.apply(files, [str(place)], dry=False)
    assert done["written"] == [str(place / "a.py"), str(place / "b.py")]
    assert sorted(path.name for path in place.iterdir()) == ["a.py", "b.py"]
    assert len(done["removed"]) == 3
    assert (tmp_path / "unit").exists()


def test_programs_may_be_run_and_commands_follow_each_time_but_in_a_dry_run(tmp_path: Path) -> None:
    count = tmp_path / "counted"
    program = {str(tmp_path / "count"): f"#!/bin/sh\necho x >> {count}\n"}
    run = [list(program)]
    assert text_files.work(check=True, programs=program, run=run)["written"] == list(program)
    assert not count.exists()
    assert text_files.work(check=False, programs=program, run=run)["changed"] is True
    assert text_files.work(check=False, programs=program, run=run)["changed"] is False
    assert count.read_text() == "x\nx\n"
    with pytest.raises(ReleaseError, match=r"^false ended with 1"):
        text_files.work(check=False, run=[["false"]])


def test_a_file_that_differs_only_in_what_needs_no_restart_keeps_its_time(tmp_path: Path) -> None:
    unit = tmp_path / "unit.conf"
    for text, restarts in (("TimeoutStopSec=95\nUMask=0027\n", False), ("TimeoutStopSec=95\nUMask=0077\n", True)):
        unit.write_text("TimeoutStopSec=50\nUMask=0027\n")
        os.utime(unit, (NOON, NOON))
        assert text_files.work(check=False, files={str(unit): text}, reread=["TimeoutStopSec="])["changed"] is True
        assert unit.read_text() == text
        assert (unit.stat().st_mtime > NOON) == restarts


def test_an_initial_file_is_written_once_and_then_belongs_to_somebody_else(tmp_path: Path) -> None:
    ours, theirs = str(tmp_path / "sites" / "new.conf"), tmp_path / "sites" / "old.conf"
    theirs.parent.mkdir()
    theirs.write_text("of a release\n")
    (theirs.parent / "gone.conf").write_text("")
    files = text_files.kept({ours: "first\n", str(theirs): "first\n"})
    done = text_files.apply(files, [str(theirs.parent)], dry=False)
    assert (done["written"], done["removed"]) == ([ours], [str(theirs.parent / "gone.conf")])
    assert theirs.read_text() == "of a release\n"


def test_an_empty_initial_text_leaves_what_a_release_brought_and_makes_nothing_but_the_directory(
    tmp_path: Path,
) -> None:
    sites = tmp_path / "nginx" / "sites"
    site = sites / "api.conf"
    asked: dict[str, Any] = {"check": False, "initial": {str(site): ""}, "alone_in": [str(sites)]}
    assert text_files.work(**asked)["written"] == []
    # A release puts its site there and expects the directory.
    assert list(sites.iterdir()) == []
    site.write_text("of a release\n")
    (sites / "gone.conf").write_text("of an app that is gone\n")
    done = text_files.work(**asked)
    assert (done["written"], done["removed"]) == ([], [str(sites / "gone.conf")])
    assert site.read_text() == "of a release\n"


def test_no_name_is_answered_behind_balancers_before_a_release_and_its_site_may_be_there() -> None:
    first = imported("plugins/filter/wiring.py").first_sites([APP], tls=True, answer=False)
    assert first == {f"/etc/nginx/sites/{APP['name']}.conf": ""}


def test_a_symlink_in_the_place_of_a_file_is_replaced_and_not_followed(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("text\n")
    link = tmp_path / "link"
    link.symlink_to(target)
    assert text_files.apply({str(link): "text\n"}, [], dry=False)["written"] == [str(link)]
    assert not link.is_symlink()
