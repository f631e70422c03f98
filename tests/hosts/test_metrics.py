"""What Prometheus sees of a host, and who else does not."""

from __future__ import annotations

import re
import socket
from typing import TYPE_CHECKING, Any

import pytest
from client import Site
from hosts import public, served
from prometheus_client.parser import text_string_to_metric_families
from units import emperors

from praetor.host.gate import wait_until

if TYPE_CHECKING:
    from testinfra.host import Host

PORTS = {"node": 9100, "nginx": 9113, "app": 9117}
FETCH = "import sys, urllib.request; sys.stdout.buffer.write(urllib.request.urlopen(sys.argv[1], timeout=60).read())"

Samples = list[tuple[str, dict[str, str], float]]


def scrape(host: Host, exporter: str) -> Samples:
    """Ask an exporter as Prometheus does, on the host's loopback; every family may be there once."""
    text = host.check_output("python3 -c %s %s", FETCH, f"http://127.0.0.1:{PORTS[exporter]}/metrics")
    types = re.findall(r"^# TYPE (\S+)", text, re.MULTILINE)
    assert len(types) == len(set(types))
    families = text_string_to_metric_families(text + "\n")
    return [(sample.name, sample.labels, sample.value) for family in families for sample in family.samples]


def values(samples: Samples, metric: str, /, **labels: str) -> list[float]:
    """Return the values of a metric whose labels include these."""
    return [value for found, own, value in samples if found == metric and labels.items() <= own.items()]


def reaches(host: Host, metric: str, least: float, /, **labels: str) -> bool:
    """Whether what the apps' exporter counts comes to a number. uWSGI counts a request after its answer, NGINX writes its log once a second."""
    return wait_until(lambda: sum(values(scrape(host, "app"), metric, **labels)) >= least, 60)


def get(site: Site, app: dict[str, Any]) -> None:
    """Ask an app for its health, as a client does."""
    site.ask(app["server_names"][0], app.get("health", {}).get("path", "/health/ready"))


def live(host: Host, app: dict[str, Any]) -> str:
    """Return the name of an app's live slot."""
    return str(host.check_output("basename $(readlink /srv/apps/%s/live.sock) .sock", app["name"]))


@pytest.mark.parametrize("port", [*PORTS.values(), 8091])
def test_exporters_cannot_be_reached_from_outside(settings: dict[str, Any], port: int) -> None:
    with pytest.raises((ConnectionRefusedError, TimeoutError)):
        socket.create_connection((settings["address"], port), timeout=3).close()


def test_the_machine_is_measured(host: Host) -> None:
    samples = scrape(host, "node")
    memory_kb = int(host.check_output("awk '/^MemTotal/ {print $2}' /proc/meminfo"))
    assert values(samples, "node_memory_MemTotal_bytes") == [memory_kb * 1024]
    assert values(samples, "node_cpu_seconds_total", mode="idle")
    assert values(samples, "node_systemd_unit_state", name="nginx.service", state="active") == [1]
    for unit in emperors(host):
        assert values(samples, "node_systemd_unit_state", name=f"{unit}.service", state="active") == [1]
    assert 1 not in values(samples, "node_systemd_unit_state", state="failed")


def test_file_systems_are_measured_as_the_host_sees_them_and_not_the_sandbox(host: Host) -> None:
    mounted = dict(
        line.split()[:2]
        for line in host.check_output("awk '{split($4, o, \",\"); print $2, o[1]}' /proc/1/mounts").splitlines()
    )
    found = [
        (own["mountpoint"], value) for name, own, value in scrape(host, "node") if name == "node_filesystem_readonly"
    ]
    assert found
    assert found == [(mount, 1 if mounted[mount] == "ro" else 0) for mount, _ in found]


def test_nginx_is_measured(host: Host, site: Site, settings: dict[str, Any]) -> None:
    before = scrape(host, "nginx")
    assert values(before, "nginx_up") == [1]
    for _ in range(10):
        get(site, served(settings)[0])
    counted = values(scrape(host, "nginx"), "nginx_http_requests_total")[0]
    assert counted >= values(before, "nginx_http_requests_total")[0] + 10


def test_every_app_has_a_live_slot_that_listens(host: Host, settings: dict[str, Any]) -> None:
    samples = scrape(host, "app")
    for app in served(settings):
        slot = live(host, app)
        assert values(samples, "praetor_live_up", app=app["name"]) == [1]
        assert values(samples, "praetor_live_info", app=app["name"], slot=slot) == [1]
        assert values(samples, "uwsgi_slot_up", slot=slot) == [1]
        assert values(samples, "praetor_deploy_last_success", app=app["name"])
        changed = int(host.check_output("stat -c %%Y /srv/apps/%s/live.sock", app["name"]))
        assert int(values(samples, "praetor_live_since_timestamp_seconds", app=app["name"])[0]) == changed


def test_requests_are_counted_where_they_were_answered(host: Host, site: Site, settings: dict[str, Any]) -> None:
    for app in public(settings):
        slot = live(host, app)
        before = sum(values(scrape(host, "app"), "uwsgi_worker_requests_total", slot=slot))
        for _ in range(20):
            get(site, app)
        assert reaches(host, "uwsgi_worker_requests_total", before + 20, slot=slot)


def test_the_backlog_and_its_limit_are_the_kernels(host: Host, settings: dict[str, Any]) -> None:
    samples = scrape(host, "app")
    for app in served(settings):
        slot = live(host, app)
        (limit,) = values(samples, "uwsgi_backlog_limit_connections", slot=slot)
        listening = host.check_output("ss -xlH src %s", f"/run/uwsgi/{app['name']}/{slot}.sock").split()
        assert limit == int(listening[3])
        assert len(values(samples, "uwsgi_backlog_connections", slot=slot)) == 1


def test_an_apps_own_metrics_name_the_release_that_wrote_them(host: Host, settings: dict[str, Any]) -> None:
    samples = scrape(host, "app")
    for app in served(settings):
        slot = live(host, app)
        files = host.run("ls /run/uwsgi/%s/%s.metrics", app["name"], slot).stdout.split()
        own = [
            labels
            for name, labels, _ in samples
            if labels.get("slot") == slot and not name.startswith(("uwsgi_", "praetor_"))
        ]
        assert bool(own) == any(name.endswith(".db") for name in files)
        assert all(labels["release"] == slot.removeprefix(f"{app['name']}.").rpartition(".")[0] for labels in own)


def test_nothing_was_unreadable(host: Host, settings: dict[str, Any]) -> None:
    samples = scrape(host, "app")
    assert values(samples, "app_exporter_broken_items") == [0.0] * len(settings["apps"])
    assert [labels for name, labels, _ in samples if name == "app_exporter_errors_total"] == []


def test_nginx_is_measured_for_each_app(host: Host, site: Site, settings: dict[str, Any]) -> None:
    for app in served(settings):
        labels = {"app": app["name"]}
        before = scrape(host, "app")
        for _ in range(10):
            get(site, app)
        for metric in ("requests_total", "request_duration_seconds_count", "response_bytes_total"):
            name = f"nginx_site_{metric}"
            assert reaches(host, name, sum(values(before, name, **labels)) + 10, **labels), metric
        after = scrape(host, "app")
        bounds = list(values(after, "nginx_site_request_duration_seconds_bucket", **labels))
        assert bounds == sorted(bounds)


def test_what_an_app_takes_as_a_whole_is_the_kernels(host: Host, settings: dict[str, Any]) -> None:
    samples = scrape(host, "app")
    for app in settings["apps"]:
        group, own = f"/sys/fs/cgroup/apps.slice/apps-{app['name']}.slice", {"app": app["name"]}
        spent = int(host.check_output(f"sed -n 's/^usage_usec //p' {group}/cpu.stat")) / 1e6
        assert 0 < values(samples, "praetor_app_cpu_seconds_total", **own)[0] <= spent
        programs = {
            labels["program"]
            for name, labels, _ in samples
            if name == "praetor_program_processes" and own.items() <= labels.items()
        }
        assert programs >= {"slots"} if app.get("wsgi") else programs
        # Without the memory controller a kernel counts no memory of a group.
        measured = host.file(f"{group}/memory.current").exists
        assert len(values(samples, "praetor_app_memory_bytes", **own)) == measured
        assert len(values(samples, "praetor_app_oom_kills_total", **own)) == measured


def test_restarts_of_processes_are_counted(host: Host, settings: dict[str, Any]) -> None:
    counted = {
        labels["name"] for name, labels, _ in scrape(host, "node") if name == "node_systemd_service_restart_total"
    }
    for app in settings["apps"]:
        running = host.check_output(
            f"systemctl list-units --plain --no-legend 'app-{app['name']}-*@*.service'"
        ).splitlines()
        assert {line.split()[0] for line in running} <= counted


def test_a_boot_looks_for_jobs_that_were_missed(host: Host) -> None:
    assert host.check_output("systemctl is-enabled missed-jobs.service") == "enabled"
    assert host.run("systemctl is-failed missed-jobs.service").rc != 0


def test_every_deploy_is_a_marker_with_who_made_it(host: Host, settings: dict[str, Any]) -> None:
    samples = scrape(host, "app")
    for app in settings["apps"]:
        (newest,) = values(samples, "praetor_deploy_last_timestamp_seconds", app=app["name"])
        assert newest in values(samples, "praetor_deploy_timestamp_seconds", app=app["name"])
        who = {own["by"] for name, own, _ in samples if name == "praetor_deploy_timestamp_seconds"}
        assert all("@" in by for by in who)


def test_the_end_of_every_certificate_is_told(host: Host) -> None:
    told = set(values(scrape(host, "app"), "praetor_certificate_not_after_timestamp_seconds"))
    for path in host.check_output("find /etc/praetor/tls -name '*.pem' -not -name key.pem").split():
        end = host.check_output('date +%%s -d "$(openssl x509 -in %s -noout -enddate | cut -d = -f 2)"', path)
        assert float(end) in told, path
