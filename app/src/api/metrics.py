"""Metrics of this service, kept in files by uWSGI worker if `PROMETHEUS_MULTIPROC_DIR` is set, else in memory.

With files, a separate exporter reads them; nothing here is on a public route. A file belongs to a worker id and not
to a process: the successor of a recycled worker goes on counting in it, so files do not pile up and no counter falls.
"""

import os
import sys
from typing import Any

from prometheus_client import CollectorRegistry, Gauge, Histogram, generate_latest, multiprocess, values

from api.config import Identity


def _worker() -> str:
    # Mules and the master have worker id 0 too. There are no mules, and the master serves nothing.
    return f"w{uwsgi.worker_id()}" if (uwsgi := in_uwsgi()) else f"p{os.getpid()}"


def in_uwsgi() -> Any:
    """uWSGI's own module, which exists only inside of it, or None."""
    return sys.modules.get("uwsgi")


if shared := "PROMETHEUS_MULTIPROC_DIR" in os.environ:
    # Before any metric exists: each takes the class of its values when it is made.
    values.ValueClass = values.MultiProcessValue(process_identifier=_worker)  # type: ignore[no-untyped-call]

registry = CollectorRegistry()

_duration = Histogram(
    "api_http_request_duration_seconds",
    "Time from the request's arrival in the worker until its response is ready, by method, route template and status.",
    ("method", "route", "status"),
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5),  # with +Inf ten series for each combination of labels
    registry=registry,
)
_build = Gauge(
    "api_build_info",
    "Always 1; the labels say what runs.",
    ("version", "release", "commit", "profile", "python"),
    multiprocess_mode="max",
    registry=registry,
)

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "other"})
_children: dict[tuple[str, str, str], Histogram] = {}


def observe(method: str, route: str, status: str, seconds: float) -> None:
    """Count one request. `route` is a template, never a path: the number of time series does not depend on clients."""
    key = (method if method in _METHODS else "other", route, status)  # anybody may send any word as a method
    child = _children.get(key)
    if child is None:
        child = _children[key] = _duration.labels(*key)
    child.observe(seconds)


def build(identity: Identity, version: str, profile: str) -> None:
    """Say what runs."""
    python = ".".join(str(part) for part in sys.version_info[:3])
    _build.labels(version, identity.release, identity.commit, profile, python).set(1)


def all_workers() -> CollectorRegistry:
    """The metrics of all workers if they count in files, else our own."""
    if not shared:
        return registry
    merged = CollectorRegistry()
    multiprocess.MultiProcessCollector(merged)  # type: ignore[no-untyped-call]
    return merged


def text() -> bytes:
    """The same in Prometheus' text format."""
    return generate_latest(all_workers())
