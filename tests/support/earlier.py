"""Hosts of an earlier version, under load, which playbooks of this version take over."""

from __future__ import annotations

from pathlib import Path

from clients import Load, Step
from fleet import Fleet
from load import LANES, Record
from project import ROOT
from reached import Host, hosts

KEPT_OPEN = {lane.kind for lane in LANES["hosts"] if lane.keep_alive}
AUTHORITY = Path("~/.local/share/praetor/authority/earlier/authority.pem").expanduser()


class Earlier(Fleet):
    """Two hosts, one of each Debian release."""

    inventory = ROOT / "molecule" / "earlier" / "inventory"
    has_workers = False

    @classmethod
    def app_hosts(cls, inventory: Path) -> list[Host]:
        """The hosts, whose certificates are of the scenario's authority."""
        return hosts(inventory, authority=str(AUTHORITY))

    def begin_load(self) -> Load:
        """Ask every host."""
        return Load("hosts", str(AUTHORITY), {host.name: host.address for host in self.hosts})

    def begin(self, name: str) -> Step:
        """Begin a step. Any reload of NGINX closes connections that wait for their next request; a client opens another, so these are no loss."""
        step = super().begin(name)
        step.excuse(_was_closed)
        return step

    def problems(self, host: Host) -> list[str]:
        """What is wrong with a host between two runs: of one that is this version's, what every step of `releases` asks."""
        if host.run("ls /etc/uwsgi/vassals", check=False):
            said = host.says()
            return [] if said == self.past[-1] else [f"{host.name} serves {said!r}, expected {self.past[-1]!r}"]
        return super().problems(host)


def _was_closed(record: Record) -> bool:
    closed = record.wrong.startswith(("RemoteDisconnected", "SSLEOFError"))
    return record.kind in KEPT_OPEN and not record.status and closed
