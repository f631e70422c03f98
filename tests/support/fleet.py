"""The hosts, the sample's variants, and the playbooks that are run on them as an operator would."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import steps
from client import Answer, Site
from hosts import hosts_of
from load import Record
from project import ROOT

HERE = Path(__file__).resolve().parent
SCENARIO = ROOT / "molecule" / "releases"
INVENTORY = SCENARIO / "inventory"
APP, SITE = "sample", "sample.lab.example"
QUIET = ("-o", "BatchMode=yes", "-o", "ControlPath=none")
KEPT = 5  # the default of release.keep
JOBS = 2000  # that the queues of all hosts hold together when the steps begin; more are added while they last
PATIENCE_S = 1500  # for one playbook, on a machine with a lot to do
WAIT_S = 600  # for one thing that a host or a playbook does
# What may lie in the app's directory between two runs.
AT_REST = {
    ".flock",
    "bad.json",
    "claims.json",
    "data",
    "freeze.json",
    "history.jsonl",
    "live.sock",
    "releases",
    "slots.json",
    "missed.json",
    "processes.json",
}
ENVIRONMENT = {
    **os.environ,
    "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
    "ANSIBLE_FORCE_COLOR": "0",
    "ANSIBLE_NOCOLOR": "1",
    "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
}


@dataclass(frozen=True)
class Host:
    """One host of the inventory, reached over ssh."""

    name: str
    address: str
    authority: str  # a PEM file: who issued the site's certificate
    ssh: tuple[str, ...]

    def run(self, command: str, *, stdin: str = "", check: bool = True) -> str:
        """Run a shell command as root and return what it printed.

        Raises:
            subprocess.CalledProcessError: it failed, and that was to be checked.
        """
        done = subprocess.run(
            [*self.ssh, f"sudo sh -c {_quoted(command)}"],
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE_S,
        )
        if check:
            assert done.returncode == 0, f"{self.name}: {command}: {done.stdout}{done.stderr}"
        return done.stdout

    def await_phase(self, phase: str) -> None:
        """Return as soon as the journal of a run on this host says that a phase has begun."""
        path = f"/srv/apps/{APP}/run.json"
        self.run(
            f'timeout {WAIT_S} sh -c \'until grep -q "\\"phase\\": \\"{phase}\\"" {path} 2>/dev/null; do sleep 0.03; done\''
        )

    def boot(self) -> str:
        """A name for the time since the host was last booted; empty when it does not answer."""
        return self.run("cut -d ' ' -f 22 /proc/1/stat", check=False)

    def await_other_boot(self, before: str) -> None:
        """Return when the host was booted and answers a client again."""
        deadline = time.monotonic() + WAIT_S
        while self.boot() in {"", before} or not self.says():
            assert time.monotonic() < deadline, f"{self.name} does not come back"
            time.sleep(0.5)

    @contextlib.contextmanager
    def read_only(self) -> Iterator[None]:
        """Make the app's directory read-only, as a file system makes itself after an error of its disk."""
        place = f"/srv/apps/{APP}"
        self.run(f"mount --bind {place} {place} && mount -o remount,ro,bind {place}")
        try:
            yield
        finally:
            self.run(f"umount --lazy {place}")

    @contextlib.contextmanager
    def small_disk(self, room: str) -> Iterator[None]:
        """Move the releases to a separate file system with little room: `kilobytes` or `inodes`."""
        place, small = f"/srv/apps/{APP}/releases", "/run/small"
        limit = {
            "kilobytes": "size=$(($(df --output=used -k $small | tail -n 1) + 32))k",
            "inodes": "nr_inodes=$(($(df --output=iused $small | tail -n 1) + 40))",
        }[room]
        self.run(
            f"set -e; small={small}; mkdir $small; mount -t tmpfs small $small; cp -a {place}/. $small; "
            f"mount -o remount,{limit} $small; mount --bind $small {place}"
        )
        try:
            yield
        finally:
            self.run(f"umount --lazy {place} && umount --lazy {small} && rmdir {small}")

    def look(self) -> dict[str, Any]:
        """Everything that a host has of the app."""
        found: dict[str, Any] = json.loads(
            self.run(f"python3 - {APP}", stdin=(HERE / "look.py").read_text(encoding="utf-8"))
        )
        return found

    def says(self) -> str:
        """Release and greeting of the sample, as a client sees them; empty when there is no good answer."""
        site = Site(self.address, ssl.create_default_context(cafile=self.authority), 30)
        with contextlib.suppress(OSError, http.client.HTTPException):
            answer = site.ask(SITE, "/")
            if answer.status == 200:
                return str(answer.headers.get("X-Sample", ""))
        return ""

    def ask(self, path: str) -> Answer:
        """What a client gets that waits longer than the sample may take."""
        return Site(self.address, ssl.create_default_context(cafile=self.authority), 60).ask(SITE, path)

    def ended(self) -> int:
        """How many requests of the live slot were ended because they took too long, as the exporter counts them for alerts."""
        live = self.run(f"basename $(readlink /srv/apps/{APP}/live.sock) .sock").strip()
        text = self.run(
            "python3 -c 'import urllib.request; print(urllib.request.urlopen(\"http://127.0.0.1:9117/metrics\").read().decode())'"
        )
        found = re.findall(rf'^uwsgi_worker_harakiri_total{{.*slot="{re.escape(live)}".*}} (\S+)$', text, re.MULTILINE)
        assert found, f"no figure of {live} in\n{text}"
        return int(sum(map(float, found)))

    def queue(self, command: str, *arguments: int) -> dict[str, Any]:
        """Ask the sample's queue on this host something, see queue.py."""
        asked = f"runuser -u {APP} -- python3 - /srv/apps/{APP}/data {command} {' '.join(map(str, arguments))}"
        found: dict[str, Any] = json.loads(self.run(asked, stdin=(HERE / "queue_jobs.py").read_text(encoding="utf-8")))
        return found


class Run:
    """A playbook that was started."""

    def __init__(self, playbook: str, *, inventory: Path = INVENTORY, **variables: Any) -> None:
        """Start it."""
        self.log = Path(tempfile.mkstemp(prefix="run-", suffix=".log")[1])
        command = ["ansible-playbook", f"playbooks/{playbook}.yml", "-i", str(inventory)]
        flags = variables.pop("flags", [])
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [*command, *flags, "--extra-vars", json.dumps(variables)],
                cwd=ROOT,
                env=ENVIRONMENT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    @property
    def output(self) -> str:
        """What it has printed so far."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def must_end(self, *words: str, well: bool) -> str:
        """Wait for its end; it must be good or bad as asked, and its output must have all these words."""
        status = self.process.wait(PATIENCE_S)
        assert (status == 0) == well, f"exit status {status}\n{self.output}"
        missing = [word for word in words if word not in self.output]
        assert not missing, f"the output does not say {missing}\n{self.output}"
        return self.output

    def await_output(self, words: str) -> None:
        """Return as soon as it has printed these words."""
        deadline = time.monotonic() + WAIT_S
        while words not in self.output:
            assert self.process.poll() is None, self.output
            assert time.monotonic() < deadline, f"never said: {words}\n{self.output}"
            time.sleep(0.05)

    @contextlib.contextmanager
    def standing_still(self) -> Iterator[None]:
        """Let the controller do nothing meanwhile, however long that takes; what it has begun on hosts goes on."""
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """Kill -9 the controller and all that it has started: nobody gets to clean up."""
        tree = [self.process.pid]
        for pid in tree:
            with contextlib.suppress(FileNotFoundError):
                for thread in Path(f"/proc/{pid}/task").iterdir():
                    tree += map(int, (thread / "children").read_text(encoding="ascii").split())
        for pid in tree:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()


@dataclass(frozen=True)
class Variant:
    """A version of the sample, in a separate directory."""

    version: str
    path: Path

    @property
    def prefix(self) -> str:
        """How the names of its releases begin."""
        return f"{self.version}-"


@dataclass
class Step(steps.Step):
    """One step: what may be seen while it lasts, and what was."""

    served: set[str] = field(default_factory=set)  # how the X-Sample of everything that may serve begins
    excuses: list[Callable[[Record], bool]] = field(default_factory=list)

    def may_serve(self, variant: Variant) -> None:
        """Allow a variant to answer clients."""
        self.served.add(variant.prefix)

    def excuse(self, excused: Callable[[Record], bool]) -> None:
        """Allow requests to fail that cannot but fail."""
        self.excuses.append(excused)

    def violations(self) -> list[str]:
        """What clients saw that they should not have seen."""
        found = [
            f"{record.kind} on {record.host} at {record.ended - self.began:.2f} s: {record.wrong} ({record.said})"
            for record in self.failed()
            if not any(excused(record) for excused in self.excuses)
        ]
        may = tuple(self.served)
        strange = {
            f"{record.host}: {record.said}"
            for record in self.records
            if record.said and not record.said.startswith(may)
        }
        return found + [f"answered by what should not serve: {said}" for said in sorted(strange)]


class Load:
    """The load generator, a separate process, and what it has written so far."""

    def __init__(self, kind: str, authority: str, places: dict[str, str]) -> None:
        """Start the clients of one kind of LANES at each of some addresses."""
        self.path = Path(tempfile.mkstemp(prefix="load-", suffix=".csv")[1])
        with self.path.open("w") as out:
            asked = [f"{name}={address}" for name, address in places.items()]
            command = [sys.executable, str(HERE / "load.py"), kind, SITE, authority, *asked]
            environment = {**os.environ, "PYTHONPATH": str(SCENARIO.parent / "client")}
            self.process = subprocess.Popen(command, stdout=out, env=environment)
        self.offset = 0

    def take(self) -> list[Record]:
        """The requests that have ended since this was last asked."""
        assert self.process.poll() is None, "the load generator has died"
        with self.path.open(encoding="utf-8", newline="") as lines:
            lines.seek(self.offset)
            text = lines.read()
        whole = text[: text.rfind("\n") + 1]
        self.offset += len(whole.encode())
        return Record.read(whole)

    def stop(self) -> None:
        """End it."""
        self.process.terminate()
        self.process.wait(60)


class Fleet:
    """All hosts, and what is expected to be live on them."""

    inventory = INVENTORY
    has_workers = True  # whether the sample's queue worker and scheduler run too

    def __init__(self) -> None:
        """Ask Ansible for the hosts, and the hosts for what they serve."""
        self.hosts = self.app_hosts(self.inventory)
        self.scratch = Path(tempfile.mkdtemp(prefix="variants-"))
        self.past = [self.one_answer()]
        # The next hundred: the steps can be taken again on the same hosts.
        self.versions = (int(self.past[0].partition("-")[0]) // 100 + 1) * 100
        self.load = self.begin_load()
        for host in self.hosts if self.has_workers else []:
            host.queue("add", JOBS // len(self.hosts) + 1)
        self.step = Step("before", time.time(), served={self.past[-1]})

    @property
    def first(self) -> Host:
        """The first app host, which releases meet first."""
        return self.hosts[0]

    @property
    def second(self) -> Host:
        """The second one."""
        return self.hosts[1]

    @property
    def third(self) -> Host:
        """The third one."""
        return self.hosts[2]

    @classmethod
    def app_hosts(cls, inventory: Path) -> list[Host]:
        """The app hosts of an inventory."""
        return hosts(inventory)

    def begin_load(self) -> Load:
        """Ask every host."""
        return Load("hosts", self.first.authority, {host.name: host.address for host in self.hosts})

    def run(self, playbook: str, **variables: Any) -> Run:
        """Start a playbook."""
        return Run(playbook, inventory=self.inventory, **variables)

    def begin(self, name: str) -> Step:
        """Begin a step."""
        self.step = Step(name, time.time(), served={self.past[-1]})
        # There is always work for the workers, whatever happens to them.
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda host: host.queue("keep", 60), self.hosts if self.has_workers else []))
        return self.step

    def end(self) -> None:
        """End a step: every host must be clean, serve what is expected, and have lost no request."""
        with ThreadPoolExecutor() as pool:
            problems = [problem for found in pool.map(self.problems, self.hosts) for problem in found]
        self.collect()
        problems += self.step.violations()
        shown = [*problems[:20], f"... and {len(problems) - 20} more"] if len(problems) > 20 else problems
        assert not problems, "\n".join(shown)

    def collect(self) -> list[Record]:
        """The requests of this step so far."""
        time.sleep(0.2)
        self.step.records += self.load.take()
        return self.step.records

    def problems(self, host: Host) -> list[str]:
        """What is wrong with a host between two runs."""
        seen, expected = host.look(), self.past[-1]
        slot = seen["live"] or "none"
        number = slot.rpartition(".")[2]
        facts: dict[str, tuple[Any, Any]] = {
            "serves": (host.says(), expected),
            "live slot's release": (slot.split(".", 1)[-1].rpartition(".")[0], expected.split()[0]),
            "vassals": (seen["vassals"], [f"{slot}.ini"]),
            "the Emperor's vassals": (seen["emperor"], [f"{slot}.ini"]),
            "Emperors": (len(seen["emperors"]), 1),
            "files in /run": (
                seen["run"],
                sorted(
                    [f"{slot}.{kind}" for kind in ("metrics", "sock", "state", "stats")]
                    + [f"emperor-{seen['emperors'][-1]}.stats"]
                ),
            ),
            "unknown files": (sorted(set(seen["root"]) - AT_REST), []),
            "incomplete releases": (sorted(set(seen["releases"]) - set(seen["complete"])), []),
            "more releases than are kept": (len(seen["releases"]) > KEPT, False),
            "units that work": (
                sorted(unit for unit, state in seen["units"].items() if state == "active"),
                sorted(
                    [f"app-{APP}-worker-{number}@{count}.service" for count in (1, 2) if self.has_workers]
                    + [f"app-{APP}-beat-{number}@1.service"] * (self.has_workers and host == self.first)
                ),
            ),
            "units of no release": (sorted(set(seen["unit files"].values()) - set(seen["complete"])), []),
            "processes": (len(seen["processes"]), 5),  # the Emperor, a master, two workers and the watch over requests
        }
        return [
            f"{host.name}: {what}: {found}, expected {right}"
            for what, (found, right) in facts.items()
            if found != right
        ]

    def variant(self, fault: str = "", *, marked_only: bool = False, pace_s: float = 0) -> Variant:
        """A new version of the sample, with or without a fault."""
        self.versions += 1
        path = self.scratch / str(self.versions)
        shutil.copytree(SCENARIO / "sample", path, ignore=shutil.ignore_patterns("__pycache__"))
        project = path / "pyproject.toml"
        text = project.read_text(encoding="utf-8")
        for old, new in (
            ('version = "0"', f'version = "{self.versions}"'),
            ('fault = ""', f'fault = "{fault}"'),
            ("marked_only = false", f"marked_only = {str(marked_only).lower()}"),
            ("pace_s = 0", f"pace_s = {pace_s}"),
        ):
            assert text.count(old) == 1, old
            text = text.replace(old, new)
        project.write_text(text, encoding="utf-8")
        self.newest = Variant(str(self.versions), path)
        return self.newest

    def start(self, variant: Variant, **variables: Any) -> Run:
        """Start to release a variant."""
        return self.run("release", sample_source=str(variant.path), **variables)

    def release(self, variant: Variant, *words: str, **variables: Any) -> str:
        """Release a variant: it must become live on all hosts, and the output must have these words."""
        said = self.start(variant, **variables).must_end(*words, well=True)
        self.now_live(variant, variables.get("sample_greeting", "hello"))
        return said

    def refuse(self, variant: Variant, *words: str, **variables: Any) -> str:
        """Try to release a variant: it must be refused or undone, and the output must have these words."""
        return self.start(variant, **variables).must_end(*words, well=False)

    def now_live(self, variant: Variant, greeting: str = "hello") -> None:
        """Note that a variant has just become live; all hosts must say so."""
        said = self.one_answer()
        release, _, greeted = said.partition(" ")
        assert (release.rpartition("-")[0], greeted) == (variant.version, greeting), said
        self.past.append(said)
        self.step.served.add(said)

    def roll_back(self, to: str, **variables: Any) -> None:
        """Roll back; what is live afterwards must be what is given."""
        self.step.served.add(to)
        self.run("rollback", **variables).must_end(well=True)
        assert self.one_answer() == to
        self.past.append(to)

    def one_answer(self) -> str:
        """What all hosts answer, with one voice."""
        said = {host.name: host.says() for host in self.hosts}
        assert len(set(said.values())) == 1, said
        return said[self.first.name]

    @contextlib.contextmanager
    def marked(self, host: Host) -> Iterator[None]:
        """Make variants with `marked_only` fail on a host."""
        mark = f"/srv/apps/{APP}/data/marked"
        host.run(f"install -o {APP} /dev/null {mark}")
        try:
            yield
        finally:
            host.run(f"rm {mark}")

    @contextlib.contextmanager
    def full_load(self) -> Iterator[Path]:
        """Ask one host as much as it can answer, by 16 connections of wrk; yields the file that has wrk's report afterwards."""
        report, names = self.scratch / "wrk", self.scratch / "hosts"
        names.write_text(f"{self.first.address} {SITE}\n", encoding="utf-8")
        # To it alone the name leads to the host: what it sends in TLS is the name of its URL. A small Debian has no /etc/services with "https".
        environment = {**os.environ, "LD_PRELOAD": "libnss_wrapper.so", "NSS_WRAPPER_HOSTS": str(names)}
        with report.open("w") as out:
            # What takes longer than two seconds is an error to wrk, unless it is told to wait.
            command = ["wrk", "-t1", "-c16", "-d1h", "--timeout=60s", f"https://{SITE}:443/"]
            wrk = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, env=environment)
        try:
            yield report
        finally:
            wrk.send_signal(signal.SIGINT)
            wrk.wait(WAIT_S)

    def migrations(self, variant: Variant) -> int:
        """How often a variant's migration has run to its end, on all hosts together."""
        return sum(
            host.run(f"cat /srv/apps/{APP}/data/migrations || :").split().count(variant.version) for host in self.hosts
        )

    def close(self) -> None:
        """End the load."""
        self.load.stop()
        shutil.rmtree(self.scratch)


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def hosts(inventory: Path, group: str = "app_hosts", authority: str = "") -> list[Host]:
    """Return the hosts of a group, with a file that says who issued their certificates unless the inventory's does."""
    return [
        Host(
            name,
            found["address"],
            authority or found["roots"],
            ("ssh", "-i", found["key"], *found["ssh_args"].split(), *QUIET, f"{found['user']}@{found['address']}"),
        )
        for name, found in hosts_of(inventory, group).items()
    ]
