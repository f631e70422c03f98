"""A host as the exporter sees it: directories, stats servers and metric files."""

import json
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from app_exporter.scrape import Exporter, Settings

RELEASE = "1.0.0-0123abcd"
SLOT = f"api.{RELEASE}.1"
LABELS = {"app": "api", "release": RELEASE, "slot": SLOT}

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


def worker(number: int, **changes: Any) -> dict[str, Any]:
    """Return a worker as uWSGI 2.0.30 describes it."""
    core = {"id": 0, "requests": 7, "write_errors": 1, "read_errors": 0, "in_request": 0, "vars": [], "req_info": {}}
    values = {"id": number, "pid": 100 + number, "accepting": 1, "requests": 7, "exceptions": 2, "harakiri_count": 1}
    times = {"running_time": 1500000, "last_spawn": 1795362659, "respawn_count": 3, "avg_rt": 2500, "tx": 4096}
    return {**values, **times, "status": "idle", "rss": 1 << 20, "cores": [core, {**core, "in_request": 1}], **changes}


def stats(*workers: dict[str, Any], **changes: Any) -> bytes:
    """Return the answer of a stats server."""
    return json.dumps({"version": "2.0.30", "load": 1, "pid": 100, "workers": list(workers), **changes}).encode()


class Host:
    """The directories of a host with one application, and an exporter that reads them."""

    def __init__(self, root: Path) -> None:
        self.run = root / "run"
        self.apps = root / "apps"
        self.slots = self.run / "api"
        self.app = self.apps / "api"
        self.drained = root / "drained"
        self.slots.mkdir(parents=True)
        (self.app / "releases" / RELEASE).mkdir(parents=True)
        self.exporter = Exporter(Settings(self.run, self.apps, timeout_s=60, max_series=200, drained=self.drained))
        self.open: list[socket.socket] = []

    def listen(self, path: Path, backlog: int = 8) -> socket.socket:
        """Listen on a unix socket."""
        server = socket.socket(socket.AF_UNIX)
        server.bind(str(path))
        server.listen(backlog)
        self.open.append(server)
        return server

    def stats_server(
        self, answer: bytes, slot: str = SLOT, *, hang: bool = False, first: Callable[[], object] = bool
    ) -> None:
        """Answer everybody who connects, in two pieces, after what is to be done first; never end if it is to hang."""
        server = self.listen(self.slots / f"{slot}.stats")

        def answer_all() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                self.open.append(connection)
                first()
                with suppress(OSError):  # whoever asked may have given up
                    connection.sendall(answer[:20])
                    connection.sendall(answer[20:])
                if not hang:
                    connection.close()

        threading.Thread(target=answer_all, daemon=True).start()

    def metrics(self, program: str, process: str = "w1", slot: str = SLOT) -> Path:
        """Let prometheus_client write its files, in a separate process as a worker does."""
        directory = self.slots / f"{slot}.metrics"
        directory.mkdir(exist_ok=True)
        start = (
            "from prometheus_client import Counter, Gauge, Histogram, Summary, values\n"
            f"values.ValueClass = values.MultiProcessValue(lambda: {process!r})\n"
        )
        environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(directory)}
        subprocess.run([sys.executable, "-c", start + program], check=True, env=environment)
        return directory

    def scrape(self) -> Samples:
        """Return the samples of a scrape, after a look at its form."""
        text = self.exporter.scrape().decode()
        names = re.findall(r"^# TYPE (\S+)", text, re.MULTILINE)
        assert len(names) == len(set(names)), "a family is there twice"
        samples: Samples = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                key = (sample.name, frozenset(sample.labels.items()))
                assert key not in samples, f"{key} is there twice"
                samples[key] = sample.value
        return samples

    def errors(self, samples: Samples) -> dict[tuple[str, str], float]:
        """Return the errors of a scrape by source and item."""
        found = {(dict(labels)["source"], dict(labels)["item"]): value for (name, labels), value in samples.items()
                 if name == "app_exporter_errors_total"}  # fmt: skip
        broken = samples["app_exporter_broken_items", frozenset({("app", "api")})]
        assert (broken > 0) == bool(self.exporter.problems._now)
        return found


def key(name: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    """Return the key of a sample that belongs to the slot."""
    return name, frozenset({**LABELS, **labels}.items())


def app_key(name: str, **labels: str) -> tuple[str, frozenset[tuple[str, str]]]:
    """Return the key of a sample that belongs to the application."""
    return name, frozenset({"app": "api", **labels}.items())
