"""A host stays safe by itself: fixed packages, restarted services, no core dumps, and nothing that the project did not put there."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from project import ROOT
from units import emperors

if TYPE_CHECKING:
    from testinfra.host import Host

MINIMUM: dict[str, Any] = yaml.safe_load(Path(__file__).with_name("minimum_versions.yml").read_text(encoding="utf-8"))
SERVICES = [
    "nginx",
    "prometheus-node-exporter",
    "prometheus-nginx-exporter",
    "app-exporter",
    "fail2ban",
]
KERNEL = {
    "net.ipv4.conf.all.accept_redirects": "0",
    "net.ipv4.conf.all.send_redirects": "0",
    "net.ipv4.conf.all.accept_source_route": "0",
    "net.ipv4.tcp_syncookies": "1",
}


@pytest.mark.parametrize("package", ["nginx", "openssl", "openssh-server", "python3"])
def test_a_package_has_the_fixes_that_are_known(host: Host, package: str) -> None:
    wanted = MINIMUM[host.system_info.release.split(".")[0]]
    (name,) = (name for name in wanted if name.startswith(package))
    installed = host.check_output("dpkg-query -W -f '${Version}' %s", name)
    needed = wanted[name]["version"]
    assert host.run("dpkg --compare-versions %s ge %s", installed, needed).rc == 0, (
        f"{name} is {installed}, fixed in {needed}: {wanted[name]['fixes'] or 'security updates'}"
    )


def test_what_an_app_needs_of_debian_is_installed(host: Host, settings: dict[str, Any]) -> None:
    python = host.check_output("/usr/bin/python3 -c 'import sys; print(*sys.version_info[:2], sep=str())'")
    for app in settings["apps"]:
        live = host.check_output("basename $(readlink /srv/apps/%s/live.sock)", app["name"])
        release = live.removeprefix(f"{app['name']}.").rsplit(".", 2)[0]
        manifest = json.loads(host.check_output("cat /srv/apps/%s/releases/%s/release.json", app["name"], release))
        for spec in manifest.get("packages", {}).get(f"cp{python}", []):
            names = [name.strip() for name in spec.split("|")]
            known = [host.run("dpkg-query -W -f '${db:Status-Status}' %s", name).stdout for name in names]
            assert "installed" in known, f"{app['name']} needs {spec}"


def test_security_updates_come_by_themselves(host: Host) -> None:
    settings = host.check_output("apt-config dump")
    assert 'APT::Periodic::Unattended-Upgrade "1";' in settings
    origins = [line for line in settings.splitlines() if line.startswith("Unattended-Upgrade::Origins-Pattern::")]
    assert len(origins) == 1
    assert "-security" in origins[0]
    assert host.check_output("systemctl is-active apt-daily-upgrade.timer") == "active"


def test_no_service_runs_with_a_library_that_was_replaced(host: Host) -> None:
    assert host.check_output("/usr/local/libexec/praetor/restart-stale --list") == ""


def test_an_app_leaves_no_core_dump(host: Host) -> None:
    for unit in emperors(host):
        test_a_service_leaves_no_core_dump(host, unit)


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_leaves_no_core_dump(host: Host, service: str) -> None:
    pid = host.check_output("systemctl show --property=MainPID --value %s.service", service)
    assert host.check_output("awk '/Max core file size/ {print $5, $6}' /proc/%s/limits", pid) == "0 0"


def test_audit_records_or_says_that_it_cannot(host: Host) -> None:
    if not host.file("/etc/audit/rules.d/60-praetor.rules").exists:
        pytest.skip("this host's inventory does not ask for audit")
    state = host.check_output("systemctl show --property=ActiveState --value auditd.service")
    if host.run("systemd-analyze condition ConditionSecurity=audit").rc:
        assert state == "inactive", "a kernel without audit: skipped, not failed"
        return
    assert state == "active"
    loaded = host.check_output("auditctl -l")
    assert [
        key for key in ("time", "users", "sudo", "ssh", "etc") if not re.search(rf"(key=|-k ){key}\b", loaded)
    ] == []


@pytest.mark.parametrize("name", KERNEL)
def test_the_kernel_is_told_by_nobody_where_to_send(host: Host, name: str) -> None:
    assert host.check_output("sysctl -n %s", name) == KERNEL[name]


def test_the_emperors_units_are_as_the_project_wrote_them(host: Host) -> None:
    for unit in emperors(host):
        shown = host.check_output("systemctl show --property=FragmentPath,DropInPaths --value %s", unit).split()
        assert set(shown) == {
            f"/etc/systemd/system/{unit}.service.d/app.conf",
            "/etc/systemd/system/uwsgi-emperor@.service",
        }


@pytest.mark.parametrize("service", SERVICES)
def test_a_unit_is_as_the_project_and_debian_wrote_it(host: Host, service: str) -> None:
    shown = host.check_output("systemctl show --property=FragmentPath,DropInPaths --value %s.service", service)
    files = shown.split()
    assert len(files) >= 1
    strange = [
        path
        for path in files
        if not path.startswith("/usr/lib/systemd/")
        and not path.startswith("/lib/systemd/")
        and "# Managed by Ansible:" not in host.file(path).content_string.partition("\n[")[0]
    ]
    assert not strange, f"foreign: {', '.join(strange)}"
    assert len([path for path in files if path.startswith("/etc/")]) == 1, files


@pytest.fixture(scope="session")
def changes(pytestconfig: pytest.Config) -> dict[str, list[str]]:
    """Return what Ansible would change on each host, as a task and its files."""
    if not pytestconfig.getoption("--drift"):
        pytest.skip("asked for with --drift")
    inventory = Path(pytestconfig.getoption("--ansible-inventory") or ROOT / "inventories/molecule").resolve()
    found: dict[str, list[str]] = {}
    with tempfile.NamedTemporaryFile("r", encoding="utf-8", suffix=".jsonl") as lines:
        command = ["ansible-playbook", "playbooks/provision.yml", "-i", str(inventory), "--check", "--diff"]
        environment = {
            **os.environ,
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_CALLBACKS_ENABLED": "changes",
            "PRAETOR_CHANGES": lines.name,
        }
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-2000:]
        for line in lines.read().splitlines():
            entry = json.loads(line)
            found.setdefault(entry["host"], []).append(" ".join([entry["task"], *entry["files"]]))
    return found


def test_nothing_was_changed_behind_the_back_of_the_project(host_name: str, changes: dict[str, list[str]]) -> None:
    found = changes.get(host_name, [])
    assert not found, "; ".join(found)
