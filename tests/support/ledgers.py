"""The hosts of the scenario, the load on them, and the playbooks that are run on them as an operator would."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import client
from hosts import hosts_of
from project import ROOT

INVENTORY = ROOT / "molecule" / "data" / "inventory"
NAME = "ledger.lab.example"
EVERY_S = 0.1
PATIENCE_S = 900
ENVIRONMENT = {
    **os.environ,
    "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
    "ANSIBLE_NOCOLOR": "1",
    "ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.default",  # says when a task begins
    "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
}


@dataclass
class Step:
    """What clients saw while something happened."""

    name: str
    requests: int = 0
    failed: int = 0
    acknowledged: int = 0
    found: int = 0
    told: set[int] = field(default_factory=set)
    longest_s: float = 0
    lost: list[int] = field(default_factory=list)
    forgives_after: float = float("inf")
    """What was acknowledged later than this may be gone: a loss of the primary, or a restore, costs the last writes before it."""


class Host:
    """One host of the inventory, reached over ssh."""

    def __init__(self, name: str, settings: dict[str, Any]) -> None:
        """Say how to reach it."""
        self.name, self.address = name, str(settings["address"])
        self._ssh = ["ssh", *settings["ssh_args"].split(), "-i", settings["key"], f"{settings['user']}@{self.address}"]

    def run(self, command: str, *, check: bool = True) -> str:
        """Run a shell command as root and return what it printed."""
        quoted = "'" + command.replace("'", "'\\''") + "'"
        done = subprocess.run(
            [*self._ssh, f"sudo sh -c {quoted}"], capture_output=True, text=True, check=False, timeout=PATIENCE_S
        )
        if check:
            assert done.returncode == 0, f"{self.name}: {command}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def sql(self, text: str, database: str = "postgres") -> str:
        """Ask the host's own server; nothing where it does not run."""
        return self.run(f'runuser -u postgres -- psql -X -A -t -d {database} -c "{text}" 2>/dev/null', check=False)

    def is_primary(self) -> bool:
        """Whether the host takes writes."""
        return self.sql("select pg_is_in_recovery()") == "f"


class Site:
    """App, databases and backups, under load."""

    def __init__(self) -> None:
        """Start the load."""
        found = {
            name: Host(name, one)
            for group in ("app_hosts", "database_hosts", "backup_hosts")
            for name, one in hosts_of(INVENTORY, group).items()
        }
        self.app, self.backup = found["app1"], found["backup1"]
        self.databases = [found["db1"], found["db2"]]
        authority = self.app.run("cat /etc/praetor/tls/host/authority.pem")
        self._place = client.Site(self.app.address, ssl.create_default_context(cadata=authority))
        self._lock, self._end = threading.Lock(), threading.Event()
        self.step = Step("start")
        self.acknowledged: dict[int, float] = {}
        self.forgiven: set[int] = set()
        # Another run on the same hosts has its own numbers.
        self._next = int(time.time()) * 1000
        self._threads = [threading.Thread(target=self._drive, args=("rows",), daemon=True) for _ in range(3)]
        for thread in self._threads:
            thread.start()

    def _number(self) -> int:
        with self._lock:
            self._next += 1
            return self._next

    def _drive(self, what: str) -> None:
        while not self._end.wait(EVERY_S):
            number, began = self._number(), time.time()
            status = self.ask("POST", f"/{what}/{number}")[0]
            with self._lock:
                self.step.requests += 1
                self.step.longest_s = max(self.step.longest_s, time.time() - began)
                if status == 201:
                    self.step.told.add(number)
                    self.acknowledged[number] = time.time()
                else:
                    self.step.failed += 1

    def ask(self, method: str, path: str) -> tuple[int, str]:
        """Send one request; status 0 when there was no answer."""
        try:
            connection = self._place.open(NAME)
            connection.request(method, path, headers={"Host": NAME, "Connection": "close"})
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        except (OSError, http.client.HTTPException):
            return 0, ""

    @contextlib.contextmanager
    def notes(self) -> Iterator[list[int]]:
        """Write notes all the time; the list has those that were acknowledged."""
        told: list[int] = []
        end = threading.Event()

        def drive() -> None:
            while not end.wait(EVERY_S):
                number = self._number()
                if self.ask("POST", f"/notes/{number}")[0] == 201:
                    told.append(number)

        thread = threading.Thread(target=drive, daemon=True)
        thread.start()
        try:
            yield told
        finally:
            end.set()
            thread.join()

    def begin(self, name: str) -> Step:
        """Count for another step from now on."""
        with self._lock:
            self.step = Step(name)
            return self.step

    def settle(self) -> None:
        """Hold all that was ever acknowledged against what the database that serves has."""
        self.await_writes()
        with self._lock:
            # What comes from now on counts for the next step.
            told, step = dict(self.acknowledged), self.step
            self.step = Step("between")
        status, text = self.ask("GET", "/rows")
        while status != 200:  # a thread that wrote nothing since finds out now that its connection is dead
            time.sleep(0.2)
            status, text = self.ask("GET", "/rows")
        there = {int(line) for line in text.splitlines()}
        step.lost = sorted(set(told) - there - self.forgiven)
        step.acknowledged, step.found = len(step.told), len(step.told & there)
        gone = [number for number in step.lost if told[number] < step.forgives_after]
        assert gone == [], f"{len(gone)} rows were acknowledged and are not there: {gone[:5]}"
        self.forgiven |= set(step.lost)

    def await_writes(self, timeout_s: float = 60) -> None:
        """Return when writes succeed again."""
        deadline = time.monotonic() + timeout_s
        while self.ask("POST", f"/rows/{self._number()}")[0] != 201:
            assert time.monotonic() < deadline, "writes do not come back"
            time.sleep(0.2)

    @property
    def primary(self) -> Host:
        """The only host that takes writes."""
        taking = [host for host in self.databases if host.is_primary()]
        assert len(taking) == 1, [host.name for host in taking]
        return taking[0]

    @property
    def standby(self) -> Host:
        """The other one."""
        return next(host for host in self.databases if host is not self.primary)

    def play(self, name: str, *flags: str, well: bool = True, kill_at: str = "") -> str:
        """Run a playbook; with kill_at, the controller is killed when that task begins."""
        command = ["ansible-playbook", f"playbooks/{name}.yml", "-i", str(INVENTORY)]
        command += [word for flag in flags for word in ("-e", flag)]
        with subprocess.Popen(
            command,
            cwd=ROOT,
            env=ENVIRONMENT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        ) as process:
            assert process.stdout is not None
            lines = []
            for line in process.stdout:
                lines.append(line)
                if kill_at and line.startswith(f"TASK [{kill_at}"):
                    time.sleep(0.5)
                    os.killpg(process.pid, 9)
                    return "".join(lines)
        text = "".join(lines)
        assert (process.returncode == 0) == well, text[-4000:]
        assert not kill_at, f"no task {kill_at}"
        return text

    def await_streaming(self, timeout_s: float = 60) -> None:
        """Return when the standby follows the primary."""
        deadline = time.monotonic() + timeout_s
        while self.primary.sql("select count(*) from pg_stat_replication where state = 'streaming'") != "1":
            assert time.monotonic() < deadline, "the standby does not follow"
            time.sleep(0.5)

    def restored(self, output: str) -> dict[str, Any]:
        """Return what restore.yml or drill.yml said it found."""
        rows = re.search(r"^ledger\.public\.rows\s+(\d+)$", output, re.MULTILINE)
        assert rows, output[-3000:]
        return {"rows": int(rows[1])}

    def close(self) -> None:
        """End the load."""
        self._end.set()
        for thread in self._threads:
            thread.join()
