"""What NGINX did for each application, from its access logs: requests, times, bytes.

A line is one JSON object of NGINX's own making; what comes from clients stands in it with its quotes escaped, so a bare
``"status":`` is NGINX's. Lines are not parsed as JSON: one expression over all that is new costs a fifth of it.
"""

from __future__ import annotations

import os
import re
import threading
from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field
from operator import itemgetter
from typing import TYPE_CHECKING

from app_exporter.exposition import Exposition, number, sample_prefix
from app_exporter.slots import is_app

if TYPE_CHECKING:
    from pathlib import Path

    from app_exporter.problems import Problems

SUFFIX = ".access.log"
# What is read at a time; after a long pause the rest follows at the next one.
MAX_BYTES = 16 << 20
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
CLASSES = ("1xx", "2xx", "3xx", "4xx", "5xx")

_LINE = re.compile(
    rb'"status":(\d+),"request_time_s":([\d.]+),"upstream_time_s":"([^"\n]*)",'
    rb'[^\n]*?"bytes":(\d+),"request_bytes":(\d+)[^\n]*\n'
)
_NUMBER = re.compile(rb"\d+\.\d+")


class Histogram:
    """Times in buckets."""

    def __init__(self) -> None:
        """Start empty."""
        self.counts = [0] * (len(BUCKETS) + 1)
        self.sum = 0.0

    def add(self, value: float, times: int) -> None:
        """Count a value that was seen so many times."""
        self.counts[bisect_left(BUCKETS, value)] += times
        self.sum += value * times

    def write(self, exposition: Exposition, name: str, text: str, app: str) -> None:
        """Add it to the answer."""
        lines = exposition.family(name, "histogram", text).lines
        total = 0
        for bound, count in zip((*map(number, BUCKETS), "+Inf"), self.counts, strict=True):
            total += count
            lines.append(f"{sample_prefix(f'{name}_bucket', (('app', app), ('le', bound)))}{total}")
        lines.append(sample_prefix(f"{name}_sum", (("app", app),)) + number(round(self.sum, 3)))
        lines.append(f"{sample_prefix(f'{name}_count', (('app', app),))}{total}")


@dataclass
class SiteLog:
    """The access log of one site, read as far as it goes."""

    handle: int = -1
    inode: int = 0
    rest: bytes = b""
    requests: Counter[str] = field(default_factory=lambda: Counter(dict.fromkeys(CLASSES, 0)))
    duration: Histogram = field(default_factory=Histogram)
    upstream: Histogram = field(default_factory=Histogram)
    sent: int = 0
    received: int = 0
    unreadable: int = 0
    error: str = ""

    def open(self, path: Path, *, at_end: bool) -> None:
        """Begin to read a file.

        Raises:
            OSError: it cannot be opened.

        """
        self.handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        self.inode = os.fstat(self.handle).st_ino
        self.rest = b""
        if at_end:
            os.lseek(self.handle, 0, os.SEEK_END)

    def close(self) -> None:
        """Stop reading."""
        if self.handle >= 0:
            os.close(self.handle)
            self.handle = -1

    def read(self) -> None:
        """Count what is new."""
        if os.fstat(self.handle).st_size < os.lseek(self.handle, 0, os.SEEK_CUR):  # emptied in its place
            os.lseek(self.handle, 0, os.SEEK_SET)
            self.rest = b""
        data = self.rest + os.read(self.handle, MAX_BYTES)
        end = data.rfind(b"\n") + 1
        self.rest = data[end:]
        self.count(data[:end])

    def count(self, lines: bytes) -> None:
        """Count whole lines."""
        found = _LINE.findall(lines)
        self.unreadable += lines.count(b"\n") - len(found)
        for (status, took, upstream), times in Counter(map(itemgetter(0, 1, 2), found)).items():
            self.requests[f"{status[:1].decode()}xx" if len(status) == 3 else "other"] += times
            self.duration.add(float(took), times)
            parts = _NUMBER.findall(upstream)  # "-", a number, or one for each attempt
            if parts:
                self.upstream.add(sum(map(float, parts)), times)
        self.sent += sum(map(int, map(itemgetter(3), found)))
        self.received += sum(map(int, map(itemgetter(4), found)))


class AccessLogs:
    """All access logs of a directory; what was in them before the first look is not counted."""

    def __init__(self, directory: Path) -> None:
        """Look at nothing yet."""
        self.directory = directory
        self.sites: dict[str, SiteLog] = {}
        self._told: Counter[str] = Counter()
        self._first = True
        self._lock = threading.Lock()

    def poll(self) -> None:
        """Count what is new in each log; follow those that were rotated."""
        with self._lock:
            try:
                names = [path.name.removesuffix(SUFFIX) for path in self.directory.glob(f"*{SUFFIX}")]
            except OSError:
                names = []
            for app in filter(is_app, names):
                self.sites.setdefault(app, SiteLog())
            for app, site in self.sites.items():
                self._follow(site, self.directory / f"{app}{SUFFIX}")
            self._first = False

    def _follow(self, site: SiteLog, path: Path) -> None:
        """Read a log, and after a rotation the old file to its end first: NGINX writes there until it is told."""
        was_error, site.error = site.error, ""
        try:
            if site.handle >= 0:
                site.read()
            try:
                inode = path.stat().st_ino
            except FileNotFoundError:
                return  # just being rotated
            if site.handle < 0 or (inode != site.inode and path.stat().st_size > 0):
                site.close()
                # What was written while it could not be read is not news.
                site.open(path, at_end=self._first or bool(was_error))
                site.read()
        except OSError as error:
            site.error = error.strerror or str(error)

    def write(self, exposition: Exposition, problems: Problems) -> None:
        """Add the figures of all sites to the answer."""
        with self._lock:
            for app, site in sorted(self.sites.items()):
                self._note(app, site, problems)
                label = (("app", app),)
                for code, count in sorted(site.requests.items()):
                    text = "Requests that NGINX has answered, by class of status."
                    exposition.add("counter", "nginx_site_requests_total", text, count, (*label, ("code", code)))
                text = "Time of a request, from its first byte to the last of its answer."
                site.duration.write(exposition, "nginx_site_request_duration_seconds", text, app)
                text = "Time that the application took for its answer."
                site.upstream.write(exposition, "nginx_site_upstream_duration_seconds", text, app)
                text = "Bytes of answers, with their headers."
                exposition.add("counter", "nginx_site_response_bytes_total", text, site.sent, label)
                text = "Bytes of requests, with their headers."
                exposition.add("counter", "nginx_site_request_bytes_total", text, site.received, label)

    def _note(self, app: str, site: SiteLog, problems: Problems) -> None:
        name = f"{app}{SUFFIX}"
        if site.error:
            problems.note(app, "access_log", name, site.error)
        elif site.unreadable > self._told[app]:
            problems.note(app, "access_log", name, "has lines that are none of NGINX's")
        self._told[app] = site.unreadable
