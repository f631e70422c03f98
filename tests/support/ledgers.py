"""The hosts of the scenario, the load on them, and the playbooks that are run on them as an operator would."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import client
import steps
from hosts import hosts_of
from load import Record
from project import ROOT

INVENTORY = ROOT / "molecule" / "data" / "inventory"
MONITORED = ROOT / "molecule" / "data" / "monitored"
"""What a monitoring host adds to it."""
SKIPPED = "fail2ban,unattended_upgrades,journal_upload,access_log_upload,journal_remote,blackbox_exporter"
"""No part of what a monitoring host is asked here."""
NAME = "ledger.lab.example"
EVERY_S = 0.1
OK, CREATED = 200, 201
PATIENCE_S = 900
WAIT_S = 600  # for one thing that a host does, on a machine with a lot to do
ENVIRONMENT = {
    **os.environ,
    "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
    "ANSIBLE_NOCOLOR": "1",
    "ANSIBLE_STDOUT_CALLBACK": "ansible.builtin.default",  # says when a task begins
    "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
}


@dataclass
class Step(steps.Step):
    """What clients saw while something happened, and which of the rows that they were told of were found when it had ended."""

    told: set[int] = field(default_factory=set)
    found: set[int] = field(default_factory=set)
    forgives_after: float = float("inf")
    """What was acknowledged later than this may be gone: a loss of the primary, or a restore, costs the last writes before it."""

    def cells(self) -> dict[str, int]:
        """Return what the table tells of any load, and what became of the rows."""
        cells = super().cells()
        kept = {column: cells[column] for column in ("requests", "failed", "max ms")}
        return {**kept, "acknowledged": len(self.told), "found": len(self.found)}

    @classmethod
    def of_all(cls, steps: Sequence[Self]) -> Self:
        """Return all steps as one."""
        whole = super().of_all(steps)
        for step in steps:
            whole.told |= step.told
            whole.found |= step.found
        return whole


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

    def await_boot(self, timeout_s: float = WAIT_S) -> None:
        """Return when the host can be reached, after a boot that may have begun."""
        time.sleep(3)
        deadline = time.monotonic() + timeout_s
        while self.run("systemctl is-system-running --wait || true", check=False) not in {"running", "degraded"}:
            assert time.monotonic() < deadline, f"{self.name} does not come back"
            time.sleep(1)

    def sql(self, text: str, database: str = "postgres", place: str = "/var/run/postgresql") -> str:
        """Ask a server of the host, by default its own; nothing where it does not run."""
        asked = f'runuser -u postgres -- psql -X -A -t -h {place} -d {database} -c "{text}" 2>/dev/null'
        return self.run(asked, check=False)

    def is_primary(self) -> bool:
        """Whether the host takes writes."""
        return self.sql("select pg_is_in_recovery()") == "f"


class Site:
    """App, databases and backups, under load."""

    def __init__(self) -> None:
        """Start the load."""
        self.inventories = [INVENTORY]
        found = {
            name: Host(name, one)
            for group in ("app_hosts", "database_hosts", "backup_hosts")
            for name, one in hosts_of(INVENTORY, group).items()
        }
        self.app, self.backup = found["app1"], found["backup1"]
        self.databases = [found["db1"], found["db2"]]
        # This machine, as the hosts see it.
        self.gateway = f"{self.app.address.rpartition('.')[0]}.1"
        authority = self.app.run("cat /etc/praetor/tls/host/authority.pem")
        self._place = client.Site(self.app.address, ssl.create_default_context(cadata=authority))
        self._lock, self._end = threading.Lock(), threading.Event()
        self.step = Step("start", time.time())
        self.acknowledged: dict[int, float] = {}
        self.begun: dict[int, float] = {}
        """When it was asked for; what was acknowledged later was written some time between the two."""
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
            wrong = "" if status == CREATED else f"status {status}"
            record = Record(what, self.app.name, began, time.time(), status, "", wrong)
            with self._lock:
                self.step.records.append(record)
                if not wrong:
                    self.step.told.add(number)
                    self.acknowledged[number] = record.ended
                    self.begun[number] = began

    def ask(self, method: str, path: str) -> tuple[int, str]:
        """Send one request; status 0 when there was no answer."""
        try:
            with contextlib.closing(self._place.open(NAME)) as connection:
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
                if self.ask("POST", f"/notes/{number}")[0] == CREATED:
                    told.append(number)

        thread = threading.Thread(target=drive, daemon=True)
        thread.start()
        try:
            yield told
        finally:
            end.set()
            thread.join()

    def noted(self, directory: str) -> set[int]:
        """Return the notes in a directory of the app, from a file that must be whole."""
        script = (
            "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); print(c.execute('pragma integrity_check').fetchone()[0]); "
            "[print(n) for (n,) in c.execute('select n from notes')]"
        )
        whole, *there = self.app.run(f'python3 -c "{script}" /srv/apps/ledger/{directory}/notes.db').splitlines()
        assert whole == "ok", whole
        return set(map(int, there))

    def told(self) -> dict[int, float]:
        """Return what was acknowledged and must be there, and when."""
        with self._lock:
            return {number: when for number, when in self.acknowledged.items() if number not in self.forgiven}

    def await_rows_older_than(self, age_s: float, count: int = 200) -> None:
        """Return when so many acknowledged rows have an age, for a step that asks which of them are left."""
        while sum(when < time.time() - age_s for when in self.told().values()) < count:
            time.sleep(1)

    def begin(self, name: str) -> Step:
        """Count for another step from now on."""
        with self._lock:
            self.step = Step(name, time.time())
            return self.step

    def collect(self) -> list[Record]:
        """Return the step's requests so far."""
        with self._lock:
            return list(self.step.records)

    def end(self) -> None:
        """Hold all that was ever acknowledged against what the database that serves has."""
        self.await_writes()
        with self._lock:
            # What comes from now on counts for the next step.
            told, step = dict(self.acknowledged), self.step
            self.step = Step("between", time.time())
        assert step.told, "nothing was acknowledged while this step lasted"
        there = self.rows()
        lost = sorted(set(told) - there - self.forgiven)
        step.found = step.told & there
        gone = [number for number in lost if told[number] < step.forgives_after]
        assert gone == [], f"{len(gone)} rows were acknowledged and are not there: {gone[:5]}"
        self.forgiven |= set(lost)
        if lost:
            step.notes.append(f"{len(lost)} of the last rows are gone, as may be")

    def rows(self, timeout_s: float = WAIT_S) -> set[int]:
        """Ask the app which rows there are."""
        deadline = time.monotonic() + timeout_s
        while True:
            status, text = self.ask("GET", "/rows")
            if status == OK:
                return {int(line) for line in text.splitlines()}
            # A thread that wrote nothing since finds out now that its connection is dead.
            assert time.monotonic() < deadline, f"status {status}: {text}"
            time.sleep(0.2)

    def await_writes(self, timeout_s: float = WAIT_S) -> int:
        """Return a number that was written, as soon as writes succeed again."""
        deadline = time.monotonic() + timeout_s
        while self.ask("POST", f"/rows/{(number := self._number())}")[0] != CREATED:
            assert time.monotonic() < deadline, "writes do not come back"
            time.sleep(0.2)
        return number

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

    @staticmethod
    def to_time(moment: float) -> str:
        """Return the option that says up to when something is restored."""
        at = datetime.fromtimestamp(moment, UTC).isoformat(sep=" ")
        return f'{{"to_time": "{at}"}}'

    def refused(self, name: str, *flags: str, said: str, tags: str = "") -> None:
        """Run a playbook that must refuse; its reason is noted."""
        text = " ".join(self.play(name, *flags, tags=tags, well=False).split())
        assert said in text, text[-4000:]
        place = text.index(said)
        print(f"\n{name} {' '.join(flags)}: ...{text[max(place - 200, 0) : place + len(said) + 300]}...")

    def status(self) -> str:
        """Return what status.yml says of databases."""
        return " ".join(self.play("status", "table=databases").split())

    def await_status(self, text: str, *, said: bool = True, timeout_s: float = WAIT_S) -> None:
        """Return when status.yml says something, or says it no more."""
        deadline = time.monotonic() + timeout_s
        while (text in self.status()) is not said:
            assert time.monotonic() < deadline, f"status.yml {'does not say' if said else 'goes on saying'}: {text}"
            time.sleep(2)

    def add_monitoring_host(self) -> Host:
        """Let a monitoring host join, which sees all others from now on."""
        self.inventories = [INVENTORY, MONITORED]
        self.play("lab_up")
        self.play("provision", skip_tags=SKIPPED)
        [settings] = hosts_of(INVENTORY, "backup_hosts").values()
        return Host("mon1", {**settings, "address": f"{self.gateway.removesuffix('.1')}.41"})

    def play(
        self, name: str, *flags: str, well: bool = True, kill_at: str = "", tags: str = "", skip_tags: str = ""
    ) -> str:
        """Run a playbook; with kill_at, the controller is killed when that task begins."""
        command = ["ansible-playbook", f"playbooks/{name}.yml"]
        command += [word for inventory in self.inventories for word in ("-i", str(inventory))]
        command += [f"--skip-tags={skip_tags}"] if skip_tags else []
        command += [word for flag in flags for word in ("-e", flag)]
        command += [f"--tags={tags}"] if tags else []
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

    @staticmethod
    def lose(*hosts: Host) -> None:
        """Destroy hosts, disks and all, and put bare ones in their place."""
        names = ",".join(host.name for host in hosts)
        one = {
            "name": "{{ inventory_hostname }}",
            "lab": "{{ lab_host_lab }}",
            "lab_dir": "/var/lib/praetor-lab/{{ lab_host_lab }}",
            "state": "down",
        }
        command = [
            "ansible",
            names,
            "-i",
            str(INVENTORY),
            "-c",
            "local",
            "-b",
            "-m",
            "lab_machine",
            "-a",
            json.dumps(one),
        ]
        for step in (command, ["ansible-playbook", "playbooks/lab_up.yml", "-i", str(INVENTORY)]):
            done = subprocess.run(step, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]
        for host in hosts:
            assert host.run("ls /etc/postgresql /srv/apps /etc/praetor 2>/dev/null || true") == "", (
                f"{host.name} is not bare"
            )

    def verify(self, *files: str) -> None:
        """Run some of the host tests, as verify.yml does."""
        tests = [str(ROOT / "tests" / "hosts" / file) for file in files]
        command = ["pytest", "-q", "-rs", "-p", "no:cacheprovider", f"--ansible-inventory={INVENTORY}", *tests]
        done = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-1000:]
        # A file that asks nothing of these hosts proves nothing.
        assert "skipped" not in done.stdout, done.stdout[-2000:]
        self.step.notes.append(done.stdout.splitlines()[-1])

    def await_confirmed(self, timeout_s: float = WAIT_S) -> float:
        """Return a moment up to which the standby has all that was acknowledged, as soon as it says so."""
        moment, primary, deadline = time.time(), self.primary, time.monotonic() + timeout_s
        written = primary.sql("select pg_current_wal_flush_lsn()")
        asked = f"select count(*) from pg_stat_replication where flush_lsn >= '{written}'"  # noqa: S608  a number of the server
        while primary.sql(asked) != "1":
            assert time.monotonic() < deadline, "the standby does not follow"
            time.sleep(0.1)
        return moment

    def await_archived(self, timeout_s: float = WAIT_S) -> float:
        """Return how many seconds it takes until the archive has what is written now."""
        began, primary = time.monotonic(), self.primary
        wanted = primary.sql("select pg_walfile_name(pg_switch_wal())")
        asked = f"select last_archived_wal >= '{wanted}' from pg_stat_archiver"  # noqa: S608  a name of the server
        while primary.sql(asked) != "t":
            assert time.monotonic() - began < timeout_s, f"{wanted} is not archived"
            time.sleep(0.2)
        return time.monotonic() - began

    def await_streaming(self, timeout_s: float = WAIT_S) -> None:
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
