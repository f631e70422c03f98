"""The hosts that are watched, and how it is noted what was told about them."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hosts import hosts_of
from project import ROOT
from receivers import Receivers

PATIENCE_S = 200
ENVIRONMENT = {
    **os.environ,
    "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
    "ANSIBLE_FORCE_COLOR": "0",
    "ANSIBLE_NOCOLOR": "1",
}


class Row(NamedTuple):
    """What became of one thing that was broken: when, and how many seconds later the alert fired and was told."""

    what: str
    alert: str
    at: float
    fired_s: float
    webhook_s: float
    mail_s: float


ROWS: list[Row] = []


class Lab:
    """The hosts, and what was heard of them."""

    def __init__(self, inventory: str) -> None:
        """Find out where the hosts are, and listen on this machine."""
        self.inventory = inventory
        found = {name: each["address"] for name, each in hosts_of(Path(inventory), "all").items()}
        self.addresses: dict[str, str] = found
        self.receivers = Receivers(f"{found['mon1'].rpartition('.')[0]}.1")
        self.receivers.start()

    def ansible(self, *arguments: str, program: str = "ansible", well: bool = True) -> str:
        """Run one of Ansible's programs on the inventory of the scenario."""
        done = subprocess.run(
            [program, *arguments, "-i", self.inventory],
            cwd=ROOT,
            env=ENVIRONMENT,
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )
        assert (done.returncode == 0) == well, done.stdout + done.stderr
        return done.stdout

    def logs(self, *arguments: str) -> list[dict[str, Any]]:
        """The log lines that logs.yml prints, as an operator types it."""
        said = self.ansible("playbooks/logs.yml", "-e", "format=json", *arguments, program="ansible-playbook")
        return [json.loads(line) for line in said.splitlines() if line.startswith('{"')]

    def run(self, host: str, command: str) -> str:
        """Run a shell command on a host, as root."""
        return self.ansible(host, "-b", "-m", "ansible.builtin.shell", "-a", command)

    def told(self, what: str, alert: str, provoke: Callable[[], object], **labels: str) -> None:
        """Break something, and wait until both receivers were told of the alert with these labels."""
        wanted = {"alertname": alert, **labels}
        matchers = " ".join(f"{name}={value}" for name, value in wanted.items())
        query = f"amtool --alertmanager.url=http://127.0.0.1:9093 alert query -o json {matchers}"
        before = self.run("mon1", query).partition("\n")[2].strip()
        assert before == "[]", f"fires already: {before}"
        at = time.time()
        provoke()
        notice = self.wait(
            f"webhook about {wanted}",
            lambda: next((n for n in self.receivers.notices if n.at > at and wanted.items() <= n.labels.items()), None),
        )
        mail = self.wait(
            f"mail about {wanted}",
            lambda: next(
                (m for m in self.receivers.mails if m.at > at and all(v in m.text for v in wanted.values())), None
            ),
        )
        fired = datetime.fromisoformat(notice.fired[:19]).replace(tzinfo=UTC).timestamp()
        ROWS.append(Row(what, alert, at, fired - at, notice.at - at, mail.at - at))

    @staticmethod
    def wait(what: str, look: Callable[[], Any]) -> Any:
        """Return what is looked for as soon as it is there."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            found = look()
            if found is not None:
                return found
            time.sleep(0.2)
        return pytest.fail(f"no {what} within {PATIENCE_S} s")

    @contextlib.contextmanager
    def repaired(self, host: str, command: str) -> Iterator[None]:
        """Repair a host afterwards, whatever happens."""
        try:
            yield
        finally:
            self.run(host, command)
