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


def mistakes(place: Path, text: str) -> list[str]:
    """Return what the linter has against a configuration."""
    file = place / "nginx.conf"
    file.write_text(text)
    # It cannot know that Debian 13 has OpenSSL 3.5; on the host, nginx -t does.
    command = [str(Path(sys.executable).with_name("gixy")), "-f", "json", "--skips", "ssl_ecdh_curve", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return [f"{found['plugin']}: {found['reason'] or found['summary']}" for found in json.loads(done.stdout)]


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("case", CASES)
def test_the_linter_finds_no_mistake(
    tmp_path: Path, rendered: dict[tuple[str, str], str], case: str, release: str
) -> None:
    assert mistakes(tmp_path, rendered[case, release]) == []


def test_the_linter_would_find_one(tmp_path: Path, rendered: dict[tuple[str, str], str]) -> None:
    broken = rendered["TLS", "13"].replace("https://$host$request_uri", "https://$host$uri")
    assert any(found.startswith("http_splitting") for found in mistakes(tmp_path, broken))


def test_each_release_gets_what_it_can_do(rendered: dict[tuple[str, str], str]) -> None:
    old, new = (rendered["TLS", release] for release in RELEASES)
    assert "ssl http2;" in old
    assert "http2 on;" in new
    assert "http2 on;" not in old
    assert ("X25519MLKEM768" in new, "X25519MLKEM768" in old) == (True, False)
