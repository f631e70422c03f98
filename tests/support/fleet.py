"""All hosts of a scenario with the sample on them: releases that go over them, and what must be true of them afterwards."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from clients import Load, Step
from load import Record
from reached import Host, hosts
from started import Run
from variants import APP, INVENTORY, SITE, WAIT_S, Variant

KEPT = 5  # the default of release.keep
JOBS = 2000  # that the queues of all hosts hold together when the steps begin; more are added while they last
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
        version = str(self.versions)
        self.newest = Variant.make(version, self.scratch / version, fault, marked_only=marked_only, pace_s=pace_s)
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
