"""A host of an inventory as a scenario has it: commands over ssh, what it serves to a client, and what breaks on it."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import ssl
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from client import Answer, Site
from hosts import hosts_of
from variants import APP, HERE, PATIENCE_S, SITE, WAIT_S

QUIET = ("-o", "BatchMode=yes", "-o", "ControlPath=none")


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
