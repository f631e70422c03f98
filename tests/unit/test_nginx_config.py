"""NGINX's configuration as the role writes it, read by a program that knows which accepted configurations are mistakes."""

from __future__ import annotations

import json
import re
import shutil
import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import pytest
from project import ROOT, ansible, app_entry, defaults

from praetor.build.parts import site
from praetor.documents import Entry

APP = app_entry(
    server_names=["api.example.org", "www.example.org"],
    redirect_names=["old.example.org"],
    static={"/static": "static", "/favicon.ico": "static/favicon.ico"},
    http={
        "headers": {"Content-Security-Policy": 'default-src "none" \\'},
        "paths": [{"path": "/up", "body_mb": 50}, {"path": "/live", "stream": True}],
        "directives": "location = /gone {\n    return 410;\n}",
    },
)
RELEASES = ("12", "13")
CASES: dict[str, dict[str, Any]] = {
    "TLS": {},
    "ACME, behind a proxy": {
        "nginx_acme_root": "/var/lib/praetor/acme",
        "nginx_acme_peers": ["192.0.2.12", "192.0.2.13"],
        "nginx_trusted_proxies": ["192.0.2.0/24"],
    },
    "plain HTTP": {"nginx_tls": False},
    # As in the image: everything that is known only at its start comes from files of that time.
    "started by whoever": {
        "nginx_tls": False,
        "nginx_listen": [],
        "nginx_start_dir": "/run/nginx",
        "nginx_user": "",
        "nginx_worker_processes": "",
        "nginx_worker_files": 0,
        "nginx_status_port": 0,
        "nginx_pid_file": "/run/nginx/nginx.pid",
        "nginx_error_log": "stderr",
    },
}
FILES = {
    "nginx.conf.j2": "nginx.conf",
    "acme.conf.j2": "praetor/acme.conf",
    "answers.conf.j2": "praetor/answers.conf",
    "listen_plain.conf.j2": "praetor/listen_plain.conf",
    "listen_tls.conf.j2": "praetor/listen_tls.conf",
    "static.conf.j2": "praetor/static.conf",
}


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Path]:
    """Return the directory with all files of each case on a host of each Debian release."""
    role, place = ROOT / "roles/nginx", tmp_path_factory.mktemp("nginx")
    # Each case is a host; the role's defaults are weaker than what it sets.
    cases = {f"case{number}": case for number, case in enumerate(CASES.values())}
    (place / "hosts.json").write_text(json.dumps({"all": {"hosts": cases}}))
    (place / "group_vars").mkdir()
    (place / "group_vars/all.yml").write_text((role / "defaults/main.yml").read_text())
    tasks = [
        {
            "ansible.builtin.template": {
                "src": str(role / "templates" / source),
                "dest": f"{place}/{{{{ place }}}}/{target}",
                "mode": "0644",
            }
        }
        for source, target in FILES.items()
    ]
    play = {
        "hosts": "all",
        "gather_facts": False,
        "connection": "local",
        "tasks": tasks,
        "vars_files": [str(role / "vars/main.yml")],
    }
    (place / "play.json").write_text(json.dumps([play]))
    found: dict[tuple[str, str], Path] = {}
    for release in RELEASES:
        for number, (case, variables) in enumerate(CASES.items()):
            folder = place / f"case{number}-{release}"
            (folder / "praetor").mkdir(parents=True)
            (folder / "sites").mkdir()
            text = site(cast("Entry", APP), tls=variables.get("nginx_tls", True))
            (folder / "sites/api.conf").write_text(text)
            found[case, release] = folder
        facts = {"ansible_facts": {"distribution_major_version": release}, "ansible_python_interpreter": sys.executable}
        facts["place"] = f"{{{{ inventory_hostname }}}}-{release}"
        done = ansible(
            "ansible-playbook", str(place / "play.json"), "-i", str(place / "hosts.json"), "-e", json.dumps(facts)
        )
        assert done.returncode == 0, done.stdout + done.stderr
    return found


def mistakes(folder: Path, *known: str) -> list[str]:
    """Return what the linter has against a configuration, but for what is known."""
    # It cannot know that Debian 13 has OpenSSL 3.5; on the host, nginx -t does. `gzip off` in an `if` does what it says, see test_serving.py.
    # A cache of open files would go on serving those of the release before the last.
    command = [
        str(Path(sys.executable).with_name("gixy")),
        "-f",
        "json",
        "--skips",
        ",".join(["ssl_ecdh_curve", "if_is_evil", "try_files_is_evil_too", *known]),
        "nginx.conf",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    return [f"{found['plugin']}: {found['reason'] or found['summary']}" for found in json.loads(done.stdout)]


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("case", CASES)
def test_the_linter_finds_no_mistake(rendered: dict[tuple[str, str], Path], case: str, release: str) -> None:
    # Who starts it raises the limit to what the container was given.
    known = ["worker_rlimit_nofile_vs_connections"] if case == "started by whoever" else []
    assert mistakes(rendered[case, release], *known) == []


def test_nothing_but_a_return_or_gzip_off_stands_in_an_if(rendered: dict[tuple[str, str], Path]) -> None:
    for folder in rendered.values():
        text = "".join(path.read_text() for path in folder.rglob("*.conf"))
        found = re.findall(r"if \(.*\) \{\s*([^;]*);\s*\}", text)
        assert {each.split()[0] for each in found} == {"return", "gzip"}
        assert text.count("if (") == len(found)


def test_the_linter_would_find_one(tmp_path: Path, rendered: dict[tuple[str, str], Path]) -> None:
    broken = shutil.copytree(rendered["TLS", "13"], tmp_path / "broken")
    text = (broken / "sites/api.conf").read_text()
    (broken / "sites/api.conf").write_text(text.replace("https://$host$request_uri", "https://$host$uri"))
    assert any(found.startswith("http_splitting") for found in mistakes(broken))


def test_each_release_gets_what_it_can_do(rendered: dict[tuple[str, str], Path]) -> None:
    old, new = (rendered["TLS", release] for release in RELEASES)
    listens = [(folder / "praetor/listen_tls.conf").read_text() for folder in (old, new)]
    assert "ssl http2;" in listens[0]
    assert "http2 on;" in listens[1]
    assert "http2 on;" not in listens[0]
    curves = ["X25519MLKEM768" in (folder / "nginx.conf").read_text() for folder in (old, new)]
    assert curves == [False, True]


def test_what_is_known_only_at_the_start_comes_from_files_of_that_time(
    rendered: dict[tuple[str, str], Path],
) -> None:
    def lines(case: str) -> list[str]:
        return [line for path in sorted(rendered[case, "13"].rglob("*.conf")) for line in path.read_text().splitlines()]

    late, plain = lines("started by whoever"), lines("plain HTTP")
    assert sum("include /run/nginx/listen.conf;" in line for line in late) == 1
    # No server takes a name away from the one site.
    absent = ("listen 80", "user ", "worker_processes", "stub_status", "return 444")
    assert not any(word in line for line in late for word in absent)
    for name in ("real_ip", "proxies"):
        assert any(f"include /run/nginx/{name}.conf;" in line for line in late)
    assert not any("include /run" in line for line in plain)
    # Line by line the rest is the hosts', and so is the site.
    assert {line for line in late if line not in plain and "include" not in line and line.strip()} == {
        "pid /run/nginx/nginx.pid;",
        "error_log stderr warn;",
    }


def test_a_host_without_a_site_knows_every_variable_of_its_configuration() -> None:
    text = (ROOT / "roles/nginx/templates/nginx.conf.j2").read_text(encoding="utf-8")
    used = set(re.findall(r"\$(site_\w+)", text))
    made = set(re.findall(r"^ *(?:map|geo) .*\$(site_\w+) \{", text, re.MULTILINE))
    made |= {name for pair in re.findall(r"\(\?<(site_\w+)>|set \$(site_\w+)", text) for name in pair if name}
    assert used - made == set()


def test_the_ciphers_that_are_offered_are_authenticated_and_have_forward_secrecy() -> None:
    named = defaults("nginx")["nginx_tls_ciphers"]
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers(":".join(named))
    found = {each["name"]: each for each in context.get_ciphers() if each["protocol"] == "TLSv1.2"}
    assert sorted(found) == sorted(named)
    assert [name for name, each in found.items() if not each["aead"] or each["kea"] != "kx-ecdhe"] == []
