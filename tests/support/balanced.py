"""App hosts behind two balancers, under load at the address that these share; what is done to them, and what clients see of it."""

from __future__ import annotations

import contextlib
import hashlib
import ipaddress
import json
import os
import shutil
import ssl
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pebble
import yaml
from client import Site
from clients import Load
from fleet import Fleet
from hosts import hosts_of
from load import LANES, Record
from project import ROOT
from reached import Host, hosts
from started import Run
from variants import HERE, SITE, WAIT_S

SCENARIO = ROOT / "molecule" / "fleet"
AUTHORITY = Path("~/.local/share/praetor/authority/fleet/authority.pem").expanduser()
LAB = f"{os.environ.get('PRAETOR_LAB', 'praetor')}-t"
BREAK_S = 3.0  # for so long the address may be at nobody
CLIENTS = len(LANES["address"])
KEEPING = {
    lane.kind for lane in LANES["address"] if lane.keep_alive or lane.slow
}  # whose connections an event can meet


def until(what: str, true: Callable[[], bool], patience_s: float = WAIT_S) -> float:
    """Wait until something is true; returns the seconds it took."""
    began = time.monotonic()
    while not true():
        assert time.monotonic() - began < patience_s, f"not within {patience_s:.0f} s: {what}"
        time.sleep(0.1)
    return time.monotonic() - began


@dataclass
class NewConnections:
    """Ten times a second a new connection with TLS to the address: when each began, and whether it came about within a second."""

    place: Site
    tried: list[tuple[float, bool]] = field(default_factory=list)

    def watch(self, end: threading.Event) -> None:
        """Try until the end."""
        tries = []
        while not end.wait(0.1):
            tries.append(threading.Thread(target=self.attempt))
            tries[-1].start()
        for each in tries:
            each.join()

    def attempt(self) -> None:
        """Try once."""
        began, well = time.time(), False
        with contextlib.suppress(OSError):
            self.place.connect(SITE).close()
            well = True
        self.tried.append((began, well))

    def breaks(self) -> list[tuple[float, float]]:
        """Each time from a connection that did not come about to the next one that did."""
        found, since = [], None
        for began, well in sorted(self.tried):
            since = began if since is None and not well else since
            if well and since is not None:
                found.append((since, began))
                since = None
        return found if since is None else [*found, (since, self.tried[-1][0])]

    def longest_break_s(self) -> float:
        """How long nobody could connect."""
        return max((until - since for since, until in self.breaks()), default=0.0)


class Balanced(Fleet):
    """App hosts and balancers, and what is expected to be live on them."""

    has_workers = False

    def __init__(self, inventory: Path = SCENARIO / "inventory") -> None:
        """Ask Ansible for the hosts, and the hosts for what they serve."""
        self.inventory = inventory
        self.balancers = hosts(self.inventory, "balancer_hosts")
        network = ipaddress.ip_network(f"{self.balancers[0].address}/24", strict=False)
        self.address = str(network[20])
        self.address6 = f"fd00:{':'.join(self.address.split('.')[:3])}::20"
        self.roots = self.balancers[0].authority
        self.gone: list[Host] = []  # app hosts that have left the inventory
        super().__init__()

    @classmethod
    def app_hosts(cls, inventory: Path) -> list[Host]:
        """Reached by each own address, where the balancers' authority is the one to trust."""
        return hosts(inventory, authority=str(AUTHORITY))

    def begin_load(self) -> Load:
        """Ask at the address."""
        return Load("address", self.roots, {"address": self.address})

    def others(self, host: Host) -> list[Host]:
        """The app hosts but one."""
        return [each for each in self.hosts if each != host]

    # What balancers say.

    def look(self, balancer: Host) -> dict[str, Any]:
        """What a balancer says about itself and the hosts behind it."""
        script = (HERE / "look_balancer.py").read_text(encoding="utf-8")
        found: dict[str, Any] = json.loads(balancer.run(f"python3 - {self.address} {self.address6}", stdin=script))
        return found

    def holder(self) -> Host:
        """The balancer that has the addresses, those of both families."""
        holding = [balancer for balancer in self.balancers if self.look(balancer)["holds"]]
        assert len(holding) == 1, f"the address is at {[balancer.name for balancer in holding]}"
        return holding[0]

    def says(self, host: Host, *states: str) -> bool:
        """Whether both balancers say one of these of a host."""
        return all(self.look(balancer)["servers"].get(host.name, "").startswith(states) for balancer in self.balancers)

    def end(self) -> None:
        """End a step, when both balancers use every host again."""
        for host in self.hosts:
            until(f"both balancers use {host.name}", lambda host=host: self.says(host, "UP"))  # type: ignore[misc]
        until("one balancer has the address", lambda: sum(self.look(each)["holds"] for each in self.balancers) == 1)
        for balancer in self.balancers:
            seen = self.look(balancer)
            assert "failed: 0" in seen["processes"], f"{balancer.name}: {seen['processes']}"
            assert sorted(seen["servers"]) == sorted(host.name for host in self.hosts), seen["servers"]
        super().end()

    def asked_from(self, host: Host, accept: str = "*/*") -> tuple[int, str, int]:
        """What a client on a host gets at the address: status, kind of the answer, and seconds in Retry-After."""
        script = (
            "import http.client, json, socket, ssl, sys\n"
            "context = ssl._create_unverified_context()\n"
            f"raw = socket.create_connection(({self.address!r}, 443), 10)\n"
            f"connection = http.client.HTTPConnection({SITE!r})\n"
            f"connection.sock = context.wrap_socket(raw, server_hostname={SITE!r})\n"
            f"connection.request('GET', '/', headers={{'Accept': {accept!r}}})\n"
            "got = connection.getresponse()\n"
            "print(json.dumps([got.status, got.headers['Content-Type'], int(got.headers['Retry-After'] or 0)]))\n"
        )
        status, kind, again = json.loads(host.run("python3 -", stdin=script))
        return status, kind, again

    # What is done to hosts.

    @contextlib.contextmanager
    def cable_cut(self, host: Host) -> Iterator[None]:
        """Nothing reaches the host, and it says nothing: no FIN, no RST."""
        cable = _interface(host)
        subprocess.run(["ip", "link", "set", cable, "down"], check=True)
        try:
            yield
        finally:
            subprocess.run(["ip", "link", "set", cable, "up"], check=True)

    @contextlib.contextmanager
    def boots_slowly(self, host: Host) -> Iterator[None]:
        """Let nobody log in for half a minute after each boot, as on hardware that tests its memory."""
        place = "/etc/systemd/system/ssh.service.d"
        host.run(f"mkdir -p {place} && printf '[Service]\\nExecStartPre=/bin/sleep 30\\n' >{place}/slow.conf")
        host.run("systemctl daemon-reload")
        try:
            yield
        finally:
            host.run(f"rm {place}/slow.conf && systemctl daemon-reload")

    def reload(self, balancer: Host) -> None:
        """Let HAProxy read its files again; systemctl's word is not enough."""
        before = self.look(balancer)["worker"]
        balancer.run("systemctl reload haproxy")
        until(f"{balancer.name} has another worker", lambda: self.look(balancer)["worker"] not in ([], before))

    @contextlib.contextmanager
    def new_connections(self, address: str = "", roots: str = "") -> Iterator[NewConnections]:
        """Watch how long nobody could connect to an address, that of the load if none is given, and believe it; `roots` (PEM) are believed too."""
        trust = ssl.create_default_context(cafile=self.roots)
        if roots:
            trust.load_verify_locations(cadata=roots)
        watched, end = NewConnections(Site(address or self.address, trust, 1)), threading.Event()
        watching = threading.Thread(target=watched.watch, args=(end,))
        watching.start()
        try:
            time.sleep(1)
            yield watched
        finally:
            end.set()
            watching.join()

    def excuse_new_connections(self, since: float, until: float) -> None:
        """Who came while nobody had the address got no answer; nothing that came later may be without one."""
        self.step.excuse(lambda it: since - 1 < it.due < until + 1 and bool(it.wrong) and not it.status)

    def excuse_open_connections(self, since: float, until: float) -> int:
        """Each client may lose what it had on the connection that an address leaves behind, once. Returns how many did."""
        at = [
            record
            for record in self.collect()
            if record.wrong
            # A download had its status when it broke off.
            and (not record.status or record.kind == "download")
            and record.due < until
            and record.ended > since
            and not any(excused(record) for excused in self.step.excuses)
        ]
        assert len(at) <= CLIENTS, [f"{record.kind}: {record.wrong}" for record in at]
        self.step.excuse(at.__contains__)
        return len(at)

    def excuse_in_hands(self, since: float, until: float) -> None:
        """What a host had begun when it died: what is not asked again elsewhere, and answers of which clients already had a part."""

        def lost(record: Record) -> bool:
            begun = record.kind.startswith("post") or record.kind == "download"
            return begun and record.due < until and record.ended > since

        self.step.excuse(lost)

    @contextlib.contextmanager
    def without_load(self) -> Iterator[None]:
        """While clients of the load could trust nobody."""
        self.collect()
        self.load.stop()
        try:
            yield
        finally:
            self.load = self.begin_load()

    @contextlib.contextmanager
    def acme_authority(self) -> Iterator[tuple[Path, str]]:
        """An ACME authority on the second host: an inventory like this one that has its certificates from there, and the root of these."""
        host = self.second
        opened = "inet praetor input"
        trusted = host.run(f"sh -s {host.address} {self.address} {SITE}", stdin=pebble.START)
        host.run(f"nft insert rule {opened} tcp dport 14000 accept")
        for balancer in self.balancers:
            balancer.run("cat >/etc/acme-test.pem", stdin=trusted)
        try:
            by_acme = self.with_hosts(self.known_hosts())
            settings = {
                "certificates_mode": "acme",
                "certificates_authority_name": "fleet",
                "acme_directory_url": f"https://{host.address}:14000/dir",
                "acme_directory_ca_file": "/etc/acme-test.pem",
            }
            (by_acme / "group_vars/all/certificates.yml").write_text(yaml.safe_dump(settings), encoding="utf-8")
            yield by_acme, host.run("python3 -", stdin=pebble.ROOT)
        finally:
            host.run("systemctl stop acme-test")
            # As it was: only this rule is about the port.
            host.run(
                f"nft delete rule {opened} handle $(nft -a list chain {opened} | sed -n 's/.*dport 14000 .*handle //p')"
            )

    # The inventory, changed.

    def with_hosts(self, app_hosts: dict[str, dict[str, str]]) -> Path:
        """Return an inventory like this one with other app hosts."""
        place = Path(tempfile.mkdtemp(prefix="inventory-", dir=self.scratch))
        shutil.copytree(self.inventory / "group_vars", place / "group_vars")
        groups = yaml.safe_load((self.inventory / "hosts.yml").read_text(encoding="utf-8"))
        groups["app_hosts"]["hosts"] = app_hosts
        (place / "hosts.yml").write_text(yaml.safe_dump(groups), encoding="utf-8")
        return place

    def with_names(self, names: list[str], health: dict[str, object]) -> Path:
        """Return an inventory like this one in which the app has other names and another health check."""
        place = self.with_hosts(self.known_hosts())
        path = place / "group_vars/all/apps.yml"
        settings = yaml.safe_load(path.read_text(encoding="utf-8"))
        settings["apps"][0] |= {"server_names": names, "health": settings["apps"][0]["health"] | health}
        path.write_text(yaml.safe_dump(settings), encoding="utf-8")
        return place

    def run_with(self, inventory: Path, playbook: str, **variables: Any) -> Run:
        """Start a playbook with another inventory."""
        return Run(playbook, inventory=inventory, **variables)

    def known_hosts(self) -> dict[str, dict[str, str]]:
        """The app hosts as the inventory has them."""
        groups = yaml.safe_load((self.inventory / "hosts.yml").read_text(encoding="utf-8"))
        found: dict[str, dict[str, str]] = groups["app_hosts"]["hosts"]
        return found

    def take(self, inventory: Path) -> None:
        """From now on this is the inventory."""
        hosts_of.cache_clear()
        self.inventory = inventory
        self.hosts = self.app_hosts(inventory)


class Certificate:
    """The site's certificate, as the company's authority gives it out."""

    def __init__(self, fleet: Balanced) -> None:
        """Look where the authority is."""
        self.place = Path(fleet.roots).parent

    def renew(self, *more: str) -> str:
        """Issue another one with another key, for more names if any are given; returns its fingerprint."""
        subject = [
            "-subj",
            f"/CN={SITE}",
            "-addext",
            f"subjectAltName={','.join(f'DNS:{name}' for name in (SITE, *more))}",
            "-addext",
            "basicConstraints=critical,CA:FALSE",
        ]
        key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc", "-keyout", "key.pem"]
        by = ["-CA", "authority.pem", "-CAkey", "authority.key", "-days", "9", "-out", "certificate.pem"]
        subprocess.run(
            ["openssl", "req", "-x509", *key, *by, *subject], check=True, capture_output=True, cwd=self.place
        )
        pem = (self.place / "certificate.pem").read_text(encoding="ascii")
        return hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()

    @contextlib.contextmanager
    def damaged(self) -> Iterator[None]:
        """The key of another certificate lies with it."""
        key = self.place / "key.pem"
        before = key.read_bytes()
        key.write_bytes((self.place / "authority.key").read_bytes())
        try:
            yield
        finally:
            key.write_bytes(before)

    @staticmethod
    def shown_at(fleet: Balanced, address: str, trust: ssl.SSLContext | None = None) -> str:
        """The fingerprint of the certificate that clients are shown, who trust the company's authority unless another is given."""
        place = Site(address, trust or ssl.create_default_context(cafile=fleet.roots))
        with place.connect(SITE) as connection:
            assert isinstance(connection, ssl.SSLSocket)
            return hashlib.sha256(connection.getpeercert(binary_form=True) or b"").hexdigest()


def _interface(host: Host) -> str:
    """The end of a machine's cable that is on this machine: systemd-nspawn's name, or what is left of it where that is too long."""
    wanted = f"vb-{LAB}-{host.name}"
    shown = json.loads(subprocess.run(["ip", "-json", "link"], check=True, capture_output=True, text=True).stdout)
    return next(str(link["ifname"]) for link in shown if wanted in [link["ifname"], *link.get("altnames", [])])
