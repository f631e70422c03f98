"""What breaks, and that both receivers hear of it: a web server and a mail server of the scenario's own."""

from __future__ import annotations

import concurrent.futures
import contextlib
import http.client
import shutil
import ssl
import threading
import uuid
from pathlib import Path

import pytest
from client import Site
from project import ROOT
from watch import Lab

SITE = "sample.lab.example"
PLACE = "/etc/praetor/tls/sites/sample"


def test_the_app_is_killed(lab: Lab) -> None:
    with lab.repaired("app1", "systemctl start uwsgi-emperor@sample-1"):
        lab.told(
            "all slots killed",
            "NoLiveSlot",
            lambda: lab.run(
                "app1", "systemctl kill --signal=KILL uwsgi-emperor@sample-1; systemctl stop uwsgi-emperor@sample-1"
            ),
            instance="app1",
            app="sample",
        )


def test_a_disk_is_filled(lab: Lab) -> None:
    # Not in /mnt or /media, which Debian's node exporter leaves out.
    fill = "mkdir -p /opt/small && mount -t tmpfs -o size=4m small /opt/small && head -c 4100000 /dev/zero >/opt/small/file"
    with lab.repaired("app1", "umount /opt/small && rmdir /opt/small"):
        lab.told(
            "a disk filled",
            "DiskAlmostFull",
            lambda: lab.run("app1", fill),
            instance="app1",
            mountpoint="/opt/small",
        )


def test_an_exporter_is_stopped(lab: Lab) -> None:
    with lab.repaired("app2", "systemctl start prometheus-nginx-exporter"):
        lab.told(
            "an exporter stopped",
            "ExporterMissing",
            lambda: lab.run("app2", "systemctl stop prometheus-nginx-exporter"),
            instance="app2",
            job="nginx",
        )


def test_a_certificate_is_about_to_end(lab: Lab) -> None:
    make = (
        f"cp -p {PLACE}/fullchain.pem /etc/praetor/fullchain.kept && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes "
        f"-days 1 -subj /CN={SITE} -keyout /dev/null -out {PLACE}/fullchain.pem"
    )
    with lab.repaired("app1", f"mv /etc/praetor/fullchain.kept {PLACE}/fullchain.pem"):
        lab.told(
            "a certificate ends today",
            "CertificateExpires",
            lambda: lab.run("app1", make),
            instance="app1",
            app="sample",
            severity="page",
        )


def test_a_unit_fails(lab: Lab) -> None:
    with lab.repaired("app2", "systemctl reset-failed broken"):
        lab.told(
            "a unit failed",
            "UnitFailed",
            lambda: lab.run("app2", "systemd-run --unit=broken false; true"),
            instance="app2",
            name="broken.service",
        )


def test_a_release_is_broken(lab: Lab, tmp_path: Path) -> None:
    variant = tmp_path / "sample"
    shutil.copytree(ROOT / "molecule/releases/sample", variant)
    project = variant / "pyproject.toml"
    project.write_text(
        project.read_text().replace('version = "0"', 'version = "1"').replace('fault = ""', 'fault = "ready"')
    )

    def release() -> None:
        lab.ansible("playbooks/release.yml", "-e", f"sample_source={variant}", program="ansible-playbook", well=False)

    lab.told("a release that is not ready", "DeployFailed", release, instance="app1", app="sample")


def test_workers_hang(lab: Lab) -> None:
    over = threading.Event()
    anybody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE

    site = Site(lab.addresses["app2"], anybody)

    def hold() -> None:
        while not over.is_set():
            with contextlib.suppress(OSError, http.client.HTTPException):
                site.ask(SITE, "/hold")

    with concurrent.futures.ThreadPoolExecutor() as pool:
        try:
            lab.told(
                "all workers hang",
                "WorkersSaturated",
                lambda: [pool.submit(hold) for _ in range(8)],
                instance="app2",
                app="sample",
            )
        finally:
            over.set()


@pytest.mark.parametrize("gone", ["it does not answer", "it has left the inventory"])
def test_the_lines_of_a_host_that_is_gone_are_in_the_archive(lab: Lab, tmp_path: Path, gone: str) -> None:
    request_id = uuid.uuid4().hex
    anybody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    anybody.check_hostname, anybody.verify_mode = False, ssl.CERT_NONE
    Site(lab.addresses["app2"], anybody).ask(SITE, "/nowhere", {"X-Request-ID": request_id})
    away = ["-e", "host=app2", "--limit", "app1,mon1"]
    if gone == "it does not answer":
        (tmp_path / "away.yml").write_text("all: {hosts: {app2: {ansible_port: 1}}}\n")
        away = ["-i", str(tmp_path / "away.yml")]
    asked = ["-e", "app=sample", "-e", f"request_id={request_id}"]
    [direct] = lab.logs(*asked, "--limit", "app2")
    # What was sent is there a moment later.
    [kept] = lab.wait("line in the archive", lambda: lab.logs(*asked, *away) or None)
    assert (kept["host"], kept["source"]) == ("app2", "nginx")
    assert kept["said"] == direct["said"]


def test_a_host_is_gone(lab: Lab) -> None:
    with lab.repaired("app1", "systemctl start nginx"):
        lab.told(
            "NGINX stopped on a host", "HostDown", lambda: lab.run("app1", "systemctl stop nginx"), instance="app1"
        )
