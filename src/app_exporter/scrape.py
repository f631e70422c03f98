"""One scrape: everything that is read, in one answer."""

from __future__ import annotations

import contextlib
import threading
import time
from dataclasses import dataclass
from os import scandir
from pathlib import Path

from app_exporter.access_log import AccessLogs
from app_exporter.backlog import listening_backlogs
from app_exporter.certificates import add_certificates
from app_exporter.cgroups import add_cgroup
from app_exporter.drained import add_drained
from app_exporter.exposition import Exposition
from app_exporter.multiprocess import SlotMetrics
from app_exporter.problems import BrokenError, Problems
from app_exporter.releases import add_count, add_freeze, add_history, add_lock, add_missed
from app_exporter.slots import Slot, find_slots, is_app, live_slot, release_of
from app_exporter.uwsgi import notes, read_sockets, slot_samples

RELEASE_FILES = {
    "history.jsonl": add_history,
    "run.json": add_lock,
    "freeze.json": add_freeze,
    "releases": add_count,
    "missed.json": add_missed,
}


@dataclass(frozen=True)
class Settings:
    """Where things are, and how much of them is read."""

    run: Path = Path("/run/uwsgi")
    apps: Path = Path("/srv/apps")
    timeout_s: float = 0.5
    max_series: int = 20000
    logs: Path = Path("/var/log/nginx")
    certificates: Path = Path("/etc/praetor/tls")
    drained: Path = Path("/var/lib/praetor/balanced/drained")
    slices: Path = Path("/sys/fs/cgroup/apps.slice")


class Exporter:
    """Answers scrapes; keeps from one to the next only what makes the next one cheaper."""

    def __init__(self, settings: Settings) -> None:
        """Start with nothing read."""
        self.settings = settings
        self.problems = Problems()
        self.logs = AccessLogs(settings.logs)
        self._metrics: dict[str, SlotMetrics] = {}
        self._lock = threading.Lock()

    def scrape(self) -> bytes:
        """Read everything and write it in Prometheus' text format. One at a time."""
        with self._lock:
            started = time.perf_counter()
            exposition = Exposition()
            self.problems.begin()
            apps = self._apps()
            slots = [slot for app in apps for slot in self._slots(app)]
            up = self._add_uwsgi(slots, exposition)
            listening = self._add_backlogs(slots, exposition)
            for app in apps:
                running = [slot for slot in slots if slot.app == app]
                text = "Slots of the application that exist; two while a release is going on."
                exposition.add("gauge", "praetor_slots", text, len(running), (("app", app),))
                self._add_releases(app, up if listening is None else listening, exposition)
                self._add_cgroup(app, exposition)
            for slot in slots:
                reader = self._metrics.setdefault(slot.name, SlotMetrics(slot, self.settings.max_series))
                reader.read(exposition, self.problems)
            add_certificates(self.settings.certificates, exposition, self.problems)
            add_drained(self.settings.drained, exposition)
            self.logs.poll()
            self.logs.write(exposition, self.problems)
            for gone in self._metrics.keys() - {slot.name for slot in slots}:
                del self._metrics[gone]
            self.problems.end(apps, (slot.name for slot in slots))
            self._add_own(apps, started, exposition)
            return exposition.render()

    def _apps(self) -> list[str]:
        found: set[str] = set()
        for directory in (self.settings.run, self.settings.apps):
            with contextlib.suppress(FileNotFoundError), scandir(directory) as items:
                found.update(item.name for item in items if is_app(item.name) and item.is_dir(follow_symlinks=False))
        return sorted(found)

    def _slots(self, app: str) -> list[Slot]:
        try:
            return find_slots(self.settings.run, app)
        except (OSError, BrokenError) as error:
            self.problems.note(app, "slots", app, str(error))
            return []

    def _add_uwsgi(self, slots: list[Slot], exposition: Exposition) -> set[str]:
        """Add what uWSGI says; name the slots that say anything."""
        answers = read_sockets((slot.path("stats") for slot in slots), self.settings.timeout_s)
        up: set[str] = set()
        for slot in slots:
            try:
                # A slot without the socket is just starting or ending: it is not up, and that is all.
                answer = answers.get(slot.path("stats"))
                samples = [] if answer is None else slot_samples(answer, notes(slot.path("state")))
            except BrokenError as error:
                self.problems.note(slot.app, "stats", slot.name, str(error))
            else:
                if samples:
                    up.add(slot.name)
                for kind, name, text, value, labels in samples:
                    exposition.add(kind, name, text, value, slot.labels + labels)
            text = "Whether the slot's stats server gave its figures."
            exposition.add("gauge", "uwsgi_slot_up", text, slot.name in up, slot.labels)
        return up

    def _add_backlogs(self, slots: list[Slot], exposition: Exposition) -> set[str] | None:
        """Add what the kernel says; name the slots that listen, or none if the kernel says nothing."""
        try:
            backlogs = listening_backlogs(self.settings.timeout_s)
        except OSError as error:
            for app in sorted({slot.app for slot in slots}):
                self.problems.note(app, "backlog", "sock_diag", error.strerror or str(error))
            return None
        listening = set()
        for slot in slots:
            queue = backlogs.get(str(slot.path("sock")))
            if queue:
                listening.add(slot.name)
                text = "Connections that wait for a worker, as the kernel counts them."
                exposition.add("gauge", "uwsgi_backlog_connections", text, queue[0], slot.labels)
                text = "Connections that may wait; more are refused."
                exposition.add("gauge", "uwsgi_backlog_limit_connections", text, queue[1], slot.labels)
        return listening

    def _add_releases(self, app: str, serving: set[str], exposition: Exposition) -> None:
        """Add what lies on disk: which slot is live, how the last release ended, how many there are."""
        directory = self.settings.apps / app
        label = (("app", app),)
        try:
            live = live_slot(directory)
            if live:
                labels = Slot(app, release_of(live.slot, app), live.slot, directory).labels
                exposition.add("gauge", "praetor_live_info", "The slot that clients reach, in its labels.", 1, labels)
                text = "Time since which clients reach the live slot."
                exposition.add("gauge", "praetor_live_since_timestamp_seconds", text, live.since, label)
            if live is None or live.serves:
                text = (
                    "Whether clients reach a slot that listens; nothing of an application of processes and jobs alone."
                )
                exposition.add("gauge", "praetor_live_up", text, live is not None and live.slot in serving, label)
        except OSError as error:
            self.problems.note(app, "live", "live.sock", error.strerror or str(error))
        for name, add in RELEASE_FILES.items():
            try:
                add(app, directory, exposition)
            except (OSError, BrokenError) as error:
                self.problems.note(app, "releases", name, str(error))

    def _add_cgroup(self, app: str, exposition: Exposition) -> None:
        """Add what the application takes as a whole."""
        try:
            add_cgroup(app, self.settings.slices, exposition)
        except (OSError, BrokenError) as error:
            self.problems.note(app, "cgroup", app, str(error))

    def _add_own(self, apps: list[str], started: float, exposition: Exposition) -> None:
        for app in apps:
            text = "Things of the application that could not be read in this scrape."
            exposition.add("gauge", "app_exporter_broken_items", text, self.problems.broken(app), (("app", app),))
        for (app, source, item), count in sorted(self.problems.counts.items()):
            text = "Scrapes in which something could not be read, by its name."
            labels = (("app", app), ("source", source), ("item", item))
            exposition.add("counter", "app_exporter_errors_total", text, count, labels)
        text = "Time that this scrape took."
        exposition.add("gauge", "app_exporter_scrape_duration_seconds", text, time.perf_counter() - started)
        text = "Processor time of the exporter."
        exposition.add("counter", "app_exporter_cpu_seconds_total", text, time.process_time())
