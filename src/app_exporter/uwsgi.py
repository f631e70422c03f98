"""uWSGI's own figures, from its stats servers."""

from __future__ import annotations

import contextlib
import json
import selectors
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app_exporter.problems import BrokenError, number

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from app_exporter.exposition import Labels

MAX_STATS_BYTES = 8 << 20
MAX_NOTES, MAX_NOTE_BYTES = 128, 1 << 16


def read_sockets(paths: Iterable[Path], timeout_s: float) -> dict[Path, bytes | str]:
    """Connect to all sockets at once and read each to its end.

    Returns:
        Per path the bytes, or a sentence that says why there are none; nothing for a path that does not exist. Takes at
        most `timeout_s`, whatever they do.

    """
    deadline = time.monotonic() + timeout_s
    results: dict[Path, bytes | str] = {}
    read: dict[Path, bytearray] = {}
    with selectors.DefaultSelector() as selector, contextlib.ExitStack() as stack:
        for path in paths:
            connection = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK))
            refused = _connect(connection, path)
            if refused is None:
                read[path] = bytearray()
                selector.register(connection, selectors.EVENT_READ, path)
            elif refused:
                results[path] = refused
        while selector.get_map() and (left := deadline - time.monotonic()) > 0:
            for key, _ in selector.select(left):
                path = key.data
                try:
                    data = connection_read(key.fileobj)
                    read[path] += data
                    if data and len(read[path]) <= MAX_STATS_BYTES:
                        continue
                    results[path] = bytes(read[path]) if not data else f"sends more than {MAX_STATS_BYTES} bytes"
                except OSError as error:
                    results[path] = error.strerror or str(error)
                selector.unregister(key.fileobj)
        for key in list(selector.get_map().values()):
            results[key.data] = f"no complete answer within {timeout_s:g} s"
    return results


def _connect(connection: socket.socket, path: Path) -> str | None:
    """Connect; none if that worked, or why it did not, or an empty string if there is nothing to connect to."""
    try:
        connection.connect(str(path))
    except FileNotFoundError:
        return ""
    except BlockingIOError:
        return "does not accept connections, its backlog is full"
    except OSError as error:
        return error.strerror or str(error)
    return None


def connection_read(connection: Any) -> bytes:
    """Read what is there; `selectors` knows sockets as file objects only."""
    data: bytes = connection.recv(1 << 18)
    return data


def integer(owner: dict[str, Any], key: str) -> int:
    """Take a number out of uWSGI's JSON.

    Raises:
        BrokenError: it is not there or not a number.

    """
    return int(number(owner, key))


WORKER_COUNTERS = (
    ("requests", "uwsgi_worker_requests_total", "Requests that the worker has answered.", 1),
    ("exceptions", "uwsgi_worker_exceptions_total", "Exceptions that the application did not catch.", 1),
    ("harakiri_count", "uwsgi_worker_harakiri_total", "Requests that were ended because they took too long.", 1),
    ("running_time", "uwsgi_worker_request_seconds_total", "Time spent in requests.", 1e-6),
    ("tx", "uwsgi_worker_transmitted_bytes_total", "Bytes of responses.", 1),
)
WORKER_STATES = ("idle", "busy", "cheap", "pause", "sig")


def worker_samples(worker: dict[str, Any]) -> Iterator[tuple[str, str, str, float, Labels]]:
    """Turn one worker of uWSGI's stats into samples of kind, name, help, value, further labels.

    Raises:
        BrokenError: something is missing or of another type.

    """
    for key, name, text, unit in WORKER_COUNTERS:
        yield "counter", name, text, integer(worker, key) * unit, ()
    respawns = max(0, integer(worker, "respawn_count") - 1)  # uWSGI counts the first start too
    yield "counter", "uwsgi_worker_respawns_total", "Times the worker was started again.", respawns, ()
    yield "gauge", "uwsgi_worker_accepting", "Whether the worker takes requests.", integer(worker, "accepting"), ()
    yield (
        "gauge",
        "uwsgi_worker_start_timestamp_seconds",
        "Last start of the worker.",
        integer(worker, "last_spawn"),
        (),
    )
    average = integer(worker, "avg_rt") * 1e-6
    yield "gauge", "uwsgi_worker_average_request_seconds", "uWSGI's running average time of a request.", average, ()
    memory = integer(worker, "rss")
    if memory:  # uWSGI looks at the end of a request, if told to (memory-report, reload-on-rss)
        yield "gauge", "uwsgi_worker_resident_memory_bytes", "Memory of the worker.", memory, ()
    state = str(worker.get("status"))
    state = "sig" if state.startswith("sig") else state
    for known in WORKER_STATES:
        yield (
            "gauge",
            "uwsgi_worker_state",
            "1 for the state that the worker is in.",
            state == known,
            (("state", known),),
        )
    cores = worker.get("cores")
    if not isinstance(cores, list) or not all(isinstance(core, dict) for core in cores):
        raise BrokenError("cores is not a list of objects")
    yield "gauge", "uwsgi_worker_cores", "Requests that the worker can answer at a time.", len(cores), ()
    busy = sum(integer(core, "in_request") for core in cores)
    yield "gauge", "uwsgi_worker_busy_cores", "Requests that the worker is answering.", busy, ()
    for key in ("read", "write"):
        failed = sum(integer(core, f"{key}_errors") for core in cores)
        name = f"uwsgi_worker_{key}_errors_total"
        yield (
            "counter",
            name,
            f"Requests or responses that broke off in a {key}, as a client's leaving does.",
            failed,
            (),
        )


def notes(state: Path) -> dict[str, dict[str, Any]]:
    """Read what a slot's workers (by number) and its watch (`watch`) noted about themselves; what is no note is passed over."""
    found = {}
    for path in sorted(state.glob("*.json"))[:MAX_NOTES]:
        with contextlib.suppress(OSError, ValueError), path.open("rb") as file:
            note = json.loads(file.read(MAX_NOTE_BYTES))
            if isinstance(note, dict):
                found[path.stem] = note
    return found


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0


def slot_samples(
    answer: bytes | str, notes: dict[str, dict[str, Any]] | None = None
) -> list[tuple[str, str, str, float, Labels]]:
    """Turn what a stats server says, and a slot's notes, into samples, all or nothing.

    Takes what `read_sockets` returns: a sentence in place of bytes is the reason why there are none.

    Raises:
        BrokenError: it is not the JSON of a uWSGI stats server, or only a part of it.

    """
    if isinstance(answer, str):
        raise BrokenError(answer)
    try:
        stats = json.loads(answer)
    except (ValueError, RecursionError) as error:
        raise BrokenError(f"not JSON: {error}") from None
    workers = stats.get("workers") if isinstance(stats, dict) else None
    if not isinstance(workers, list) or not all(isinstance(worker, dict) for worker in workers):
        raise BrokenError("has no list of workers")
    samples: list[tuple[str, str, str, float, Labels]] = []
    notes = notes or {}
    ended = notes.get("watch", {}).get("ended")
    for worker in workers:
        number = str(integer(worker, "id"))
        label = (("worker", number),)
        # uWSGI's own count is of releases from before slots had a watch.
        worker["harakiri_count"] = integer(worker, "harakiri_count") + _number(
            ended.get(number) if isinstance(ended, dict) else 0
        )
        failures = _number(notes.get(number, {}).get("failures"))
        text = "Attempts in a row of the worker to load the application that failed."
        samples.append(("gauge", "uwsgi_worker_load_failures", text, failures, label))
        samples += ((*sample[:4], label + sample[4]) for sample in worker_samples(worker))
    samples.append(("gauge", "uwsgi_workers", "Workers of the slot, in whatever state.", len(workers), ()))
    load = integer(stats, "load")
    samples.append(("gauge", "uwsgi_load", "uWSGI's own figure of requests that wait or are answered.", load, ()))
    return samples
