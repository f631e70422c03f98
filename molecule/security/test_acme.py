"""An ACME authority of the lab's own issues, renews under load and refuses; NGINX never stops, and no request is lost."""

from __future__ import annotations

import contextlib
import json
import os
import re
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import pebble
import pytest
from client import Site
from project import ROOT

if TYPE_CHECKING:
    from testinfra.host import Host

NAME = "echo.lab.example"
TRUSTED = "/etc/acme-test.pem"  # on app hosts: the authority of the directory's own server
Row = Callable[[str, str, str], None]


class Authority(NamedTuple):
    """Where the authority is, and the root of what it issues."""

    address: str
    root: str


def provision(mode: str, outside: str, **changes: Any) -> subprocess.CompletedProcess[str]:
    """Provision the app hosts with certificates of a mode."""
    given = {
        "certificates_mode": mode,
        "acme_directory_url": f"https://{outside}:14000/dir",
        "acme_directory_ca_file": TRUSTED,
        **changes,
    }
    command = ["ansible-playbook", "playbooks/provision.yml", "-i", "molecule/security/inventory"]
    environment = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_FORCE_COLOR": "0"}
    command += ["--tags", "certificates,nginx,acme", "-e", json.dumps(given)]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def authority(outsider: Host, hosts: dict[str, Host], fleet: dict[str, dict[str, Any]]) -> Iterator[Authority]:
    """Return an authority that app hosts know; afterwards they have what they had before."""
    outside = outsider.check_output("ip -4 -o addr show host0 | awk '{print $4}' | cut -d/ -f1")
    # The name leads to the last host: the others' answers are found through it.
    asked = list(fleet.values())[-1]["address"]
    # All sites of the inventory get certificates, so all their names are asked for.
    names = sorted({name for settings in fleet.values() for app in settings["apps"] for name in app["server_names"]})
    said = outsider.run("sh -c %s sh %s %s %s", pebble.START, outside, asked, " ".join(names))
    assert said.rc == 0, said.stderr
    for host in hosts.values():
        written = host.run("printf %%s %s > %s", said.stdout, TRUSTED)
        assert written.rc == 0, written.stderr
    yield Authority(outside, outsider.check_output("python3 -c %s", pebble.ROOT))
    done = provision("internal", outside)
    assert done.returncode == 0, done.stdout


@pytest.fixture(scope="module")
def sites(fleet: dict[str, dict[str, Any]]) -> dict[str, Site]:
    """Return the sites of every host, for clients that look at a certificate and trust any."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return {name: Site(settings["address"], context) for name, settings in fleet.items()}


def serials(sites: dict[str, Site]) -> dict[str, str]:
    """Return the numbers of the certificates that clients get."""
    found = {}
    for name, site in sites.items():
        with contextlib.closing(site.connect(NAME)) as connection:
            assert isinstance(connection, ssl.SSLSocket)
            shown = connection.getpeercert(binary_form=True)
        assert shown
        command = ["openssl", "x509", "-noout", "-serial"]
        pem = ssl.DER_cert_to_PEM_cert(shown)
        found[name] = subprocess.run(command, input=pem, capture_output=True, text=True, check=True).stdout
    return found


class Load:
    """Clients that ask all the time, each request on a new connection: every handshake counts."""

    def __init__(self, sites: dict[str, Site]) -> None:
        """Begin."""
        self.answers: list[str] = []
        self.end = threading.Event()
        self.clients = [threading.Thread(target=self.ask, args=[site]) for site in sites.values() for _ in range(2)]
        for client in self.clients:
            client.start()

    def ask(self, site: Site) -> None:
        """Ask until the end; less often than the limit of the site."""
        while not self.end.wait(0.08):
            try:
                self.answers.append(str(site.ask(NAME, "/").status))
            except OSError as error:
                self.answers.append(f"{type(error).__name__}: {error}")

    def stop(self) -> str:
        """End, and say how many requests failed, and how."""
        self.end.set()
        for client in self.clients:
            client.join()
        assert len(self.answers) > 50
        failed = [answer for answer in self.answers if answer != "200"]
        return f"{len(failed)} lost" + (f" of {len(self.answers)}: {failed[0]}" if failed else "")


def test_certificates_are_issued_under_load(authority: Authority, sites: dict[str, Site], row: Row) -> None:
    before, load = serials(sites), Load(sites)
    done = provision("acme", authority.address)
    said = load.stop()
    assert done.returncode == 0, done.stdout
    row("issue under load", "0 lost", said)
    after = serials(sites)
    for name, site in sites.items():
        assert after[name] != before[name]
        trusting = Site(site.address, ssl.create_default_context(cadata=authority.root))
        assert trusting.ask(NAME, "/").status == 200


def test_a_second_run_asks_for_nothing(authority: Authority, sites: dict[str, Site], row: Row) -> None:
    before = serials(sites)
    done = provision("acme", authority.address)
    assert done.returncode == 0, done.stdout
    row("a second run", "nothing changed", "nothing changed" if "changed=0" in done.stdout else done.stdout[-500:])
    assert re.findall(r"changed=(?!0)", done.stdout) == []
    assert serials(sites) == before


def test_the_timers_service_renews_under_load(
    authority: Authority, hosts: dict[str, Host], sites: dict[str, Site], row: Row
) -> None:
    del authority
    before, load = serials(sites), Load(sites)
    for host in hosts.values():
        # As if the certificate had reached its last third.
        host.check_output("sed -i '1i renew_before_expiry = 36500 days' /etc/letsencrypt/renewal/echo.conf")
        done = host.run("systemctl start certbot.service")
        host.check_output("sed -i 1d /etc/letsencrypt/renewal/echo.conf")
        assert done.rc == 0, host.run("journalctl -u certbot.service -n 30 --output cat").stdout
        assert host.check_output("systemctl is-active certbot.timer") == "active"
    time.sleep(1)
    row("renew under load", "0 lost", load.stop())
    after = serials(sites)
    assert [name for name in sites if after[name] == before[name]] == []


def test_a_refused_challenge_leaves_what_is_served(authority: Authority, sites: dict[str, Site], row: Row) -> None:
    before, load = serials(sites), Load(sites)
    wanted = [{"name": "echo", "server_names": [NAME, "refused.lab.example"]}]
    done = provision("acme", authority.address, acme_sites=wanted)
    said = load.stop()
    assert done.returncode != 0
    told = " ".join(done.stdout.split())
    assert f"/dir for {NAME}, refused.lab.example. The certificate that was in use before stays in use." in told
    assert "Domain: refused.lab.example Type:" in told
    row("a refused challenge", "0 lost", said)
    row("a refused challenge, the certificate", "the old one", "the old one" if serials(sites) == before else "another")


def test_certbot_is_sandboxed(hosts: dict[str, Host], row: Row) -> None:
    for host in hosts.values():
        said = host.check_output("systemd-analyze security --no-pager certbot.service | tail -n 1")
        found = re.search(r"exposure level for \S+: (\d+\.\d+)", said)
        assert found, said
        row("certbot's exposure, at most 1.5", "yes", "yes" if float(found[1]) <= 1.5 else found[1])
