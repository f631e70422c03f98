"""Processes and jobs of apps: those of the live release run, in its slice and sandbox, and nothing is left of releases that are gone."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from units import emperors, exposure

if TYPE_CHECKING:
    from testinfra.host import Host


def state(host: Host, app: str) -> tuple[str, str, dict[str, int]]:
    """Return the live release of an app, the number of its slot, and how often this host is to run what."""
    live = host.check_output(f"readlink /srv/apps/{app}/live.sock").rpartition("/")[2].rpartition(".")[0]
    release, _, number = live.removeprefix(f"{app}.").rpartition(".")
    share = host.run(f"cat /srv/apps/{app}/processes.json").stdout
    return release, number, json.loads(share or "{}")


def shown(host: Host, unit: str, *properties: str) -> dict[str, str]:
    """Return properties of a unit."""
    said = host.check_output(f"systemctl show --property={','.join(properties)} {unit}")
    return dict(line.partition("=")[::2] for line in said.splitlines())


def units(app: dict[str, Any], number: str, share: dict[str, int]) -> list[tuple[str, dict[str, Any]]]:
    """Return the units of processes that must run, each with its entry."""
    return [
        (f"app-{app['name']}-{process['name']}-{number}@{count}.service", process)
        for process in app.get("processes", [])
        for count in range(1, share.get(process["name"], 0) + 1)
    ]


def test_processes_of_the_live_release_run_with_its_limits(host: Host, settings: dict[str, Any]) -> None:
    found = [(app, *state(host, app["name"])) for app in settings["apps"] if app.get("processes")]
    if not found:
        pytest.skip("no app of this inventory has processes")
    for app, release, number, share in found:
        for unit, process in units(app, number, share):
            seen = shown(host, unit, "ActiveState", "User", "Slice", "WorkingDirectory", "TimeoutStopUSec", "KillMode")
            assert seen["ActiveState"] == "active", host.run(f"journalctl -u '{unit}' -n 20").stdout
            assert (seen["User"], seen["Slice"]) == (app["name"], f"apps-{app['name']}.slice")
            assert seen["WorkingDirectory"] == f"/srv/apps/{app['name']}/releases/{release}/src"
            assert seen["KillMode"] == "mixed"
            if process.get("memory_mb"):
                assert int(shown(host, unit, "MemoryMax")["MemoryMax"]) == process["memory_mb"] * 2**20
            assert exposure(host, unit.removesuffix(".service")) <= 1.3


def test_jobs_of_the_live_release_are_scheduled(host: Host, settings: dict[str, Any]) -> None:
    found = [(app, *state(host, app["name"])) for app in settings["apps"] if app.get("jobs")]
    if not found:
        pytest.skip("no app of this inventory has jobs")
    for app, release, _, share in found:
        for job in app["jobs"]:
            unit = f"app-{app['name']}-{job['name']}"
            scheduled = host.run(f"systemctl is-active {unit}.timer").stdout.strip() == "active"
            assert scheduled == bool(share[job["name"]])
            if scheduled:
                assert f"/releases/{release}/" in shown(host, f"{unit}.service", "ExecStart")["ExecStart"]


def test_an_app_without_a_site_has_no_slot_and_is_not_served(host: Host, settings: dict[str, Any]) -> None:
    found = [app["name"] for app in settings["apps"] if not app.get("wsgi")]
    if not found:
        pytest.skip("every app of this inventory has a site")
    for name in found:
        assert host.check_output(f"ls -A /etc/uwsgi/{name}") == ""
        assert host.check_output(f"find /run/uwsgi/{name} -type s") == ""
        assert host.run(f"test -s /etc/nginx/sites/{name}.conf").rc != 0
        assert [unit for unit in emperors(host) if unit.startswith(f"uwsgi-emperor@{name}-")] == []
        assert host.check_output(f"basename $(readlink /srv/apps/{name}/live.sock)").endswith(".units")


def test_no_unit_of_a_release_that_is_gone_is_left(host: Host, settings: dict[str, Any]) -> None:
    files = host.check_output("grep -Hs '^# Release: ' /etc/systemd/system/app-*.service || :").splitlines()
    for app in settings["apps"]:
        releases = host.check_output(f"ls /srv/apps/{app['name']}/releases").split()
        own = [line for line in files if line.startswith(f"/etc/systemd/system/app-{app['name']}-")]
        assert [line for line in own if line.rpartition(" ")[2] not in releases] == []


def test_what_starts_at_boot_is_what_is_live(host: Host, settings: dict[str, Any]) -> None:
    links = host.check_output("ls /etc/systemd/system/multi-user.target.wants").split()
    for app in settings["apps"]:
        _, number, share = state(host, app["name"])
        own = {link for link in links if re.fullmatch(rf"app-{app['name']}-[a-z0-9_]+-\d+@\d+\.service", link)}
        assert own == {unit for unit, _ in units(app, number, share)}


def test_a_boot_asks_before_it_starts_what_runs_once(host: Host, settings: dict[str, Any]) -> None:
    assert host.check_output("systemctl is-enabled holds-at-boot.service") == "enabled"
    assert host.run("systemctl is-failed holds-at-boot.service").rc != 0, "journalctl -u holds-at-boot"
    for app in settings["apps"]:
        name = app["name"]
        once = {each["name"] for each in app.get("processes", []) if each.get("one")}
        once |= {each["name"] for each in app.get("jobs", []) if each.get("on", "once") == "once"}
        _, number, share = state(host, name)
        mine = {each for each in once if share.get(each)}
        claims = host.run("cat /srv/apps/%s/claims.json", name).stdout
        assert set(json.loads(claims or "{}")) == mine, "what other hosts are told"
        held = host.run("ls /run/praetor/held").stdout.split()
        assert {each for each in held if each.startswith(f"{name}-")} == {f"{name}-{each}" for each in mine}
        for each in app.get("processes", []):
            if each.get("one") and share.get(each["name"]):
                text = host.check_output("cat /etc/systemd/system/app-%s-%s-%s@.service", name, each["name"], number)
                assert f"ConditionPathExists=/run/praetor/held/{name}-{each['name']}" in text
