"""ACME: when an authority is asked, what is told when it refuses, and what the hook does with a new pair."""

from __future__ import annotations

import subprocess
from pathlib import Path
from types import ModuleType

import pytest
from project import imported

DIRECTORY = "https://acme.example/directory"
WANTED = {"server": DIRECTORY, "renew_hook": "/usr/bin/true", "webroot_path": "/var/lib/acme,"}


@pytest.fixture(name="acme")
def _acme() -> ModuleType:
    return imported("plugins/modules/acme_certificates.py")


@pytest.fixture(name="hook")
def _hook() -> ModuleType:
    return imported("roles/acme/files/acme_install.py")


def state(place: Path, **changes: str) -> Path:
    """Return certbot's directory with a certificate of the site `api`."""
    (place / "renewal").mkdir()
    (place / "live/api").mkdir(parents=True)
    settings = {**WANTED, **changes}
    text = "".join(f"{name} = {value}\n" for name, value in settings.items())
    (place / "renewal/api.conf").write_text(f"version = 4.0.0\n[renewalparams]\n{text}[[webroot_map]]\n")
    names = ["-addext", "subjectAltName=DNS:api.example.org,DNS:www.example.org"]
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", str(place / "key.pem")]
    out = ["-out", str(place / "live/api/fullchain.pem")]
    subprocess.run(["openssl", "req", "-x509", "-subj", "/CN=x", *names, *key, *out], check=True, capture_output=True)
    return place


def test_an_authority_is_asked_once(acme: ModuleType, tmp_path: Path) -> None:
    names = ["www.example.org", "api.example.org"]
    assert acme.why_obtain("api", names, WANTED, tmp_path) == "there is none"
    assert acme.why_obtain("api", names, WANTED, state(tmp_path)) == ""


def test_an_authority_is_asked_again_for_other_names(acme: ModuleType, tmp_path: Path) -> None:
    assert acme.why_obtain("api", ["api.example.org"], WANTED, state(tmp_path)) == (
        "it is for api.example.org, www.example.org, not for api.example.org"
    )


@pytest.mark.parametrize(("setting", "value"), [("server", "https://other.example/"), ("renew_hook", "None")])
def test_an_authority_is_asked_again_when_renewal_would_be_another(
    acme: ModuleType, tmp_path: Path, setting: str, value: str
) -> None:
    found = acme.why_obtain("api", ["api.example.org"], WANTED, state(tmp_path, **{setting: value}))
    assert found == f"{setting} is {value}, not {WANTED[setting]}"


def test_a_refusal_is_told_in_the_authoritys_words(acme: ModuleType) -> None:
    said = """Saving debug log to /var/log/letsencrypt/letsencrypt.log
Certbot failed to authenticate some domains (authenticator: webroot). The Certificate Authority reported these problems:
  Domain: api.example.org
  Type:   connection
  Detail: 192.0.2.1: Fetching http://api.example.org/.well-known/acme-challenge/x: Connection refused

Hint: The Certificate Authority failed to download the temporary challenge files.

Some challenges have failed.
Ask for help or search for solutions at https://community.letsencrypt.org.
"""
    told = acme.refusal(said)
    assert "Domain: api.example.org Type:   connection Detail: 192.0.2.1: Fetching" in told
    assert "Ask for help" not in told
    assert acme.refusal("one\n\ntwo\nthree\nfour\n") == "two three four"


@pytest.mark.parametrize("accepted", [True, False])
@pytest.mark.parametrize(
    ("tell", "command"),
    [(["web.service"], ["systemctl", "reload", "web.service"]), (["/usr/bin/show", "all"], ["/usr/bin/show", "all"])],
)
def test_a_pair_that_the_web_server_refuses_is_taken_back(
    hook: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tell: list[str],
    command: list[str],
    *,
    accepted: bool,
) -> None:
    place, lineage = tmp_path / "sites/api", tmp_path / "live/api"
    hook.install(place, {"fullchain.pem": "old chain", "key.pem": "old key"})
    lineage.mkdir(parents=True)
    (lineage / "fullchain.pem").write_text("new chain")
    (lineage / "privkey.pem").write_text("new key")
    asked = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        asked.append((command, (place / "fullchain.pem").read_text()))
        return subprocess.CompletedProcess(command, 0 if accepted else 1, "", "refused")

    monkeypatch.setattr(hook.subprocess, "run", run)
    monkeypatch.setattr(hook.sys, "argv", ["hook", str(tmp_path / "sites"), *tell])
    monkeypatch.setenv("RENEWED_LINEAGE", str(lineage))
    assert hook.main() == (0 if accepted else 1)
    assert asked == [(command, "new chain")]
    found = {path.name: (path.read_text(), path.stat().st_mode & 0o777) for path in place.iterdir()}
    age = "new" if accepted else "old"
    assert found == {"fullchain.pem": (f"{age} chain", 0o644), "key.pem": (f"{age} key", 0o600)}


def test_what_certbot_has_and_is_not_served_is_noticed(acme: ModuleType, tmp_path: Path) -> None:
    place = state(tmp_path)
    served = tmp_path / "sites/api"
    assert not acme.is_installed("api", tmp_path / "sites", place)
    served.mkdir(parents=True)
    (served / "fullchain.pem").write_text("another")
    assert not acme.is_installed("api", tmp_path / "sites", place)
    (served / "fullchain.pem").write_bytes((place / "live/api/fullchain.pem").read_bytes())
    assert acme.is_installed("api", tmp_path / "sites", place)
