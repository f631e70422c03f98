"""NGINX's configuration as the role writes it, read by a program that knows which accepted configurations are mistakes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from project import ROOT, ansible

SITE = {
    "name": "api",
    "server_names": ["api.example.org", "www.example.org"],
    "socket": "/srv/apps/api/live.sock",
    "request_s": 30,
    "body_mb": 1,
}
PAIR = {"certificate": "/etc/praetor/tls/sites/api/fullchain.pem", "key": "/etc/praetor/tls/sites/api/key.pem"}
RELEASES = ("12", "13")
CASES: dict[str, dict[str, Any]] = {
    "TLS": {"nginx_sites": [SITE | PAIR]},
    "ACME, behind a proxy": {
        "nginx_sites": [SITE | PAIR],
        "nginx_acme_root": "/var/lib/praetor/acme",
        "nginx_acme_peers": ["192.0.2.12", "192.0.2.13"],
        "nginx_trusted_proxies": ["192.0.2.0/24"],
    },
    "plain HTTP": {"nginx_sites": [SITE]},
    # As in the image: everything that is known only at its start comes from files of that time.
    "started by whoever": {
        "nginx_sites": [SITE],
        "nginx_listen": [],
        "nginx_start_dir": "/run/nginx",
        "nginx_user": "",
        "nginx_worker_processes": "",
        "nginx_worker_files": 0,
        "nginx_status_port": 0,
        "nginx_pid_file": "/run/nginx/nginx.pid",
        "nginx_error_log": "stderr",
        "nginx_logs_dir": "/run/nginx",
        "nginx_log_buffer": "4k",
    },
}


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], str]:
    """Return the file of each case on a host of each Debian release."""
    role, place = ROOT / "roles/nginx", tmp_path_factory.mktemp("nginx")
    # Each case is a host; the role's defaults are weaker than what it sets.
    cases = {f"case{number}": case for number, case in enumerate(CASES.values())}
    (place / "hosts.json").write_text(json.dumps({"all": {"hosts": cases}}))
    (place / "group_vars").mkdir()
    (place / "group_vars/all.yml").write_text((role / "defaults/main.yml").read_text())
    found: dict[tuple[str, str], str] = {}
    for release in RELEASES:
        facts = {"ansible_facts": {"distribution_major_version": release}, "ansible_python_interpreter": sys.executable}
        arguments = f"src={role}/templates/nginx.conf.j2 dest={place}/{{{{ inventory_hostname }}}}.conf mode=0644"
        hosts = ["all", "-i", str(place / "hosts.json"), "-c", "local", f"-e@{role}/vars/main.yml"]
        done = ansible("ansible", *hosts, "-e", json.dumps(facts), "-m", "ansible.builtin.template", "-a", arguments)
        assert done.returncode == 0, done.stdout + done.stderr
        found |= {(case, release): (place / f"case{number}.conf").read_text() for number, case in enumerate(CASES)}
    return found


def mistakes(place: Path, text: str, *known: str) -> list[str]:
    """Return what the linter has against a configuration, but for what is known."""
    file = place / "nginx.conf"
    file.write_text(text)
    # It cannot know that Debian 13 has OpenSSL 3.5; on the host, nginx -t does.
    command = [
        str(Path(sys.executable).with_name("gixy")),
        "-f",
        "json",
        "--skips",
        ",".join(["ssl_ecdh_curve", *known]),
        str(file),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return [f"{found['plugin']}: {found['reason'] or found['summary']}" for found in json.loads(done.stdout)]


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("case", CASES)
def test_the_linter_finds_no_mistake(
    tmp_path: Path, rendered: dict[tuple[str, str], str], case: str, release: str
) -> None:
    # Who starts it raises the limit to what the container was given.
    known = ["worker_rlimit_nofile_vs_connections"] if case == "started by whoever" else []
    assert mistakes(tmp_path, rendered[case, release], *known) == []


def test_the_linter_would_find_one(tmp_path: Path, rendered: dict[tuple[str, str], str]) -> None:
    broken = rendered["TLS", "13"].replace("https://$host$request_uri", "https://$host$uri")
    assert any(found.startswith("http_splitting") for found in mistakes(tmp_path, broken))


def test_each_release_gets_what_it_can_do(rendered: dict[tuple[str, str], str]) -> None:
    old, new = (rendered["TLS", release] for release in RELEASES)
    assert "ssl http2;" in old
    assert "http2 on;" in new
    assert "http2 on;" not in old
    assert ("X25519MLKEM768" in new, "X25519MLKEM768" in old) == (True, False)


def test_what_is_known_only_at_the_start_comes_from_files_of_that_time(
    rendered: dict[tuple[str, str], str],
) -> None:
    late, plain = rendered["started by whoever", "13"], rendered["plain HTTP", "13"]
    assert late.count("include /run/nginx/listen.conf;") == plain.count("listen [::]:80") == 2
    assert not any(
        word in late
        for word in ("listen 80", "user ", "worker_processes", "worker_rlimit_nofile", "/var/log", "stub_status")
    )
    for name in ("real_ip", "proxies"):
        assert f"include /run/nginx/{name}.conf;" in late
    assert "include /run" not in plain
    # Line by line the rest is the hosts'.
    known = {line for line in plain.splitlines() if "listen " not in line}
    assert {line for line in late.splitlines() if line not in known and "include" not in line and line.strip()} == {
        "pid /run/nginx/nginx.pid;",
        "error_log stderr warn;",
        "        access_log /run/nginx/api.access.log site_json buffer=4k flush=1s;",
    }
