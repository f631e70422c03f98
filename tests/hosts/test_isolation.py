"""Who can reach what: from the network, and from one user of the host to another."""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING, Any

import pytest
from hosts import served
from units import emperors, exposure

if TYPE_CHECKING:
    from testinfra.host import Host

# Highest exposure that `systemd-analyze security` may say.
EXPOSURE = {
    "nginx": 2.7,
    "prometheus-node-exporter": 1.5,
    "prometheus-nginx-exporter": 1.5,
    "app-exporter": 1.5,
    "fail2ban": 1.7,
}
# Ports that may be open to the network besides SSH's. 9443: see test_metrics_endpoint.py; 68 and 546 are the DHCP client's.
PUBLIC = {80, 443, 9443, 68, 546}
CONNECT = "import socket, sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])"

TRY = """
import socket, sys
host, port = sys.argv[1], int(sys.argv[2])
try:
    socket.create_connection((host, port), 1)
except ConnectionRefusedError:
    print("refused")
except OSError as error:
    print(error)
"""


def run_as(host: Host, user: str, command: str, *arguments: str, groups: str = "") -> Any:
    """Run a command as another user, in that user's groups or in one that is named."""
    belongs = f"--groups={groups}" if groups else "--init-groups"
    group = "nogroup" if user == "nobody" else user
    return host.run(f"setpriv --reuid={user} --regid={group} {belongs} {command}", *arguments)


def listening(host: Host) -> list[tuple[str, int, str]]:
    """Return address, port and processes of everything that the network could reach."""
    rows = (line.split(None, 6) for line in host.check_output("ss -lntupH").splitlines())
    found = []
    for row in rows:
        address, _, port = row[4].rpartition(":")
        found.append((address.partition("%")[0].strip("[]"), int(port), row[6] if len(row) > 6 else ""))
    return found


def test_nothing_is_open_to_the_network_but_ssh_and_the_sites(host: Host, settings: dict[str, Any]) -> None:
    expected = {*PUBLIC, int(settings["port"])}
    open_to_all = [row for row in listening(host) if not row[0].startswith("127.") and row[0] != "::1"]
    assert [row for row in open_to_all if row[1] not in expected] == []
    assert 80 in {port for _, port, _ in open_to_all}


def processes(host: Host, app: str) -> set[str]:
    """Return the ids of what runs in an app's slice."""
    return set(host.check_output(f"cat $(find /sys/fs/cgroup*/apps.slice/apps-{app}.slice -name cgroup.procs)").split())


def test_each_app_has_one_emperor_of_its_user_and_nothing_of_it_is_root(host: Host, settings: dict[str, Any]) -> None:
    units = emperors(host)
    for app in served(settings):
        name = app["name"]
        [unit] = [unit for unit in units if unit.rpartition("-")[0] == f"uwsgi-emperor@{name}"]
        shown = host.check_output("systemctl show --property=User,Slice %s", unit).splitlines()
        assert sorted(shown) == [f"Slice=apps-{name}.slice", f"User={name}"]
        found = host.check_output("ps -o user=,args= -p %s", ",".join(processes(host, name))).splitlines()
        assert len(found) >= 3
        uid = host.check_output("id -u %s", name)
        assert {line.split()[0] for line in found} <= {name, uid}
        links = host.check_output("find /etc/uwsgi/%s -name '*.ini' -printf '%%u %%p\\n'", name).splitlines()
        assert [line.split()[0] for line in links] == ["root"]
        assert run_as(host, name, "touch /etc/uwsgi/%s/x", name).rc != 0
    assert host.run("systemctl cat uwsgi-emperor.service").rc != 0, "all apps once shared it"


def test_an_app_has_a_tmp_that_no_other_sees(host: Host) -> None:
    for unit in emperors(host):
        pid = host.check_output("systemctl show --property=MainPID --value %s", unit)
        inside = f"/proc/{pid}/root/tmp/{unit}"
        host.check_output("touch %s", inside)
        try:
            assert host.run("ls /tmp/%s", unit).rc != 0
        finally:
            host.check_output("rm %s", inside)


def test_an_app_has_the_limits_of_its_entry(host: Host, settings: dict[str, Any]) -> None:
    for app in settings["apps"]:
        limits = app["limits"] if "tasks_max" in app.get("limits", {}) else {"tasks_max": 4096, "cpu_weight": 100}
        shown = host.check_output("systemctl show --property=TasksMax,CPUWeight,MemoryMax apps-%s.slice", app["name"])
        found = dict(line.split("=", 1) for line in shown.splitlines())
        assert (found["TasksMax"], found["CPUWeight"]) == (str(limits["tasks_max"]), str(limits.get("cpu_weight", 100)))
        assert found["MemoryMax"].isdecimal(), "no limit of memory"


def test_an_app_connects_only_to_what_its_entry_names(host: Host, settings: dict[str, Any]) -> None:
    limited = [app for app in settings["apps"] if app.get("egress") is not None]
    if not limited:
        pytest.skip("every app may connect to anything: none has the key egress")
    assert 'include "/etc/praetor/egress/*.nft"' in host.file("/etc/nftables.conf").content_string, "gone after a boot"
    lines = host.check_output("cat /etc/resolv.conf").splitlines()
    resolvers = [line.split()[1] for line in lines if line.startswith("nameserver ")]
    # The last address of a network that the host is in: whoever has it, nothing is sent there.
    links = host.check_output("ip -4 -o route show scope link").splitlines()
    target = ipaddress.ip_network(links[0].split()[0])[-2]
    for app in limited:
        name, uid = app["name"], host.check_output("id -u %s", app["name"])
        rules = host.check_output("nft --numeric list table inet praetor_egress_%s", name)
        assert f"meta skuid != {uid} accept" in rules
        assert [
            one for one in resolvers if not one.startswith("127.") and f"daddr {one} udp dport 53" not in rules
        ] == []
        named = [ipaddress.ip_network(to) for rule in app["egress"] for to in rule["to"]]
        if not any(target in network for network in named):
            assert run_as(host, name, "python3 -c %s %s 9", TRY, str(target)).stdout.strip() == "refused"
            forget = "nft delete element inet praetor_egress_%s refused4 { %s . tcp . 9 }"
            assert host.run(forget, name, str(target)).rc == 0, "what was refused is not remembered"


def test_nginx_starts_after_the_apps_and_stops_before_them(host: Host) -> None:
    for unit in emperors(host):
        assert "nginx.service" in host.check_output("systemctl show --property=Before --value %s", unit).split()
        assert host.check_output("systemctl is-enabled %s", unit) == "enabled"


def test_no_process_of_an_app_listens_on_a_network(host: Host, settings: dict[str, Any]) -> None:
    """Connections to a database, a queue or elsewhere are its own affair: `egress`."""
    pids = {pid for app in settings["apps"] for pid in processes(host, app["name"])}
    assert len(pids) > 1
    inet = host.check_output("ss -lntupH").splitlines()
    assert [line for line in inet if pids & set(re.findall(r"pid=(\d+)", line))] == []


def test_sockets_are_open_to_their_app_and_to_nginx_only(host: Host, settings: dict[str, Any]) -> None:
    for app in served(settings):
        name = app["name"]
        assert host.check_output("stat -c '%%a %%U:%%G' /run/uwsgi/%s", name) == f"2750 {name}:www-data"
        sockets = host.check_output(
            "find /run/uwsgi/%s -type s -not -name 'emperor-*' -printf '%%f %%m %%u:%%g\\n'", name
        ).splitlines()
        assert len(sockets) >= 2
        assert [line for line in sockets if not line.endswith(f" 660 {name}:www-data")] == []
        live = f"/srv/apps/{name}/live.sock"
        assert run_as(host, "www-data", "python3 -c %s %s", CONNECT, live).rc == 0
        stranger = run_as(host, "nobody", "python3 -c %s %s", CONNECT, live)
        assert "PermissionError" in stranger.stderr


def test_an_app_reaches_no_other_apps_sockets(host: Host, settings: dict[str, Any]) -> None:
    names = [app["name"] for app in served(settings)]
    others = [(name, other) for name in names for other in names if name != other]
    for name, other in others or [("nobody", names[0])]:
        assert run_as(host, name, "ls /run/uwsgi/%s", other).rc != 0
        refused = run_as(host, name, "python3 -c %s %s", CONNECT, f"/srv/apps/{other}/live.sock")
        assert "PermissionError" in refused.stderr


@pytest.mark.parametrize("stranger", ["nobody", "www-data", "prometheus"])
def test_releases_and_data_are_their_apps_own(host: Host, settings: dict[str, Any], stranger: str) -> None:
    for app in settings["apps"]:
        root = f"/srv/apps/{app['name']}"
        places = [f"{root}/data", *host.check_output("find %s/releases -mindepth 1 -maxdepth 1 -type d", root).split()]
        assert len(places) > 1
        for place in places:
            assert run_as(host, app["name"], "ls %s", place).rc == 0
            assert "Permission denied" in run_as(host, stranger, "ls %s", place).stderr


def test_an_app_cannot_change_its_own_release_or_history(host: Host, settings: dict[str, Any]) -> None:
    for app in settings["apps"]:
        root = f"/srv/apps/{app['name']}"
        writable = run_as(host, app["name"], "find %s -path %s/data -prune -o ! -type l -writable -print", root, root)
        assert writable.stdout == ""


def test_an_app_cannot_read_access_logs(host: Host, settings: dict[str, Any]) -> None:
    for app in served(settings):
        for reader in (app["name"], "nobody"):
            found = run_as(host, reader, "cat %s", f"/var/log/nginx/{app['name']}.access.log")
            assert "Permission denied" in found.stderr


def test_nginx_answers_as_www_data(host: Host) -> None:
    processes = [line.split(None, 1) for line in host.check_output("ps -C nginx -o user=,args=").splitlines()]
    workers = {user for user, arguments in processes if "worker process" in arguments}
    assert workers == {"www-data"}


def test_the_exporter_sees_no_file_but_those_it_reads(host: Host, settings: dict[str, Any]) -> None:
    pid = host.check_output("systemctl show --property=MainPID --value app-exporter.service")
    assert host.check_output("ps -o user= -p %s", pid) != "root"
    # /proc/PID/root is what the process itself sees. Of /etc it needs the linker's cache and nothing else.
    root = f"/proc/{pid}/root"
    assert host.check_output("find %s/etc -type f -not -path '*/praetor/tls/*'", root) == f"{root}/etc/ld.so.cache"
    assert (
        host.check_output("find %s/var %s/root %s/tmp -type f -not -path '*/var/log/nginx/*'", root, root, root) == ""
    )
    # Certificates are there to be read; the keys next to them are not.
    ids = dict(line.split(":", 1) for line in host.check_output("cat /proc/%s/status", pid).splitlines())
    uid, gid, groups = ids["Uid"].split()[0], ids["Gid"].split()[0], ",".join(ids["Groups"].split())
    for key in host.check_output("find /etc/praetor/tls -name key.pem").split():
        found = host.run("setpriv --reuid=%s --regid=%s --groups=%s cat %s", uid, gid, groups, key)
        assert "Permission denied" in found.stderr
    seen = set(host.check_output("ls %s", root).split())
    assert seen <= {
        *["app_exporter", "dev", "etc", "lib", "lib64", "proc", "root", "run", "srv", "sys", "tmp", "usr", "var"]
    }
    assert host.run("ls %s/srv/apps/%s", root, settings["apps"][0]["name"]).rc == 0


def test_the_emperors_are_sandboxed(host: Host) -> None:
    found = {unit: exposure(host, unit) for unit in emperors(host)}
    assert found
    assert [unit for unit, said in found.items() if said > 1.3] == []


@pytest.mark.parametrize("unit", EXPOSURE)
def test_a_service_is_sandboxed(host: Host, unit: str) -> None:
    assert exposure(host, unit) <= EXPOSURE[unit]
