"""The sample's queue worker, and its queue: jobs in an SQLite file that outlives releases.

A worker takes a job by one statement, so two never take the same. It finishes the job that it has when it is asked to end. A job whose worker was killed is
taken again when its lease is over: so it is done at least once, and every other job exactly once.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sqlite3
import time
from typing import TYPE_CHECKING

from variant import DATA, VERSION, is_broken

if TYPE_CHECKING:
    from types import FrameType

LEASE_S = 30  # longer than the longest job
_ASKED_TO_END: list[int] = []


def queue() -> sqlite3.Connection:
    """Open the queue."""
    found = sqlite3.connect(DATA / "queue.db", timeout=30, isolation_level=None)
    found.execute("PRAGMA journal_mode=WAL")
    found.execute(
        "CREATE TABLE IF NOT EXISTS jobs (id INTEGER PRIMARY KEY, ms INTEGER, leased_until REAL DEFAULT 0, done_at REAL)"
    )
    found.execute("CREATE TABLE IF NOT EXISTS runs (job INTEGER, worker TEXT, version TEXT, began REAL, ended REAL)")
    return found


def take(jobs: sqlite3.Connection) -> tuple[int, int] | None:
    """Take the oldest job that nobody has: its id and how long it lasts."""
    now = time.time()
    found = jobs.execute(
        "UPDATE jobs SET leased_until = ? WHERE id = (SELECT id FROM jobs WHERE done_at IS NULL AND leased_until < ? ORDER BY id LIMIT 1) RETURNING id, ms",
        (now + LEASE_S, now),
    ).fetchall()
    return found[0] if found else None


def work(jobs: sqlite3.Connection, job: int, milliseconds: int) -> None:
    """Do a job, and note it."""
    run = jobs.execute(
        "INSERT INTO runs (job, worker, version, began) VALUES (?, ?, ?, ?)",
        (job, os.environ["APP_PROCESS"], VERSION, time.time()),
    )
    time.sleep(milliseconds / 1000)
    now = time.time()
    with contextlib.closing(jobs.cursor()) as cursor:
        cursor.execute("BEGIN IMMEDIATE")
        cursor.execute("UPDATE runs SET ended = ? WHERE rowid = ?", (now, run.lastrowid))
        cursor.execute("UPDATE jobs SET done_at = ? WHERE id = ?", (now, job))
        cursor.execute("COMMIT")


def end(number: int, _frame: FrameType | None) -> None:
    """Remember that this process is to end."""
    _ASKED_TO_END.append(number)


def main() -> None:
    """Work until asked to end."""
    signal.signal(signal.SIGTERM, end)
    if is_broken("worker"):
        raise SystemExit("the sample's worker cannot work, as it was told")
    jobs = queue()
    while not _ASKED_TO_END:
        taken = take(jobs)
        if taken is None:
            time.sleep(0.1)
        else:
            work(jobs, *taken)


if is_broken("worker import"):
    importlib.import_module("a_module_that_nobody_installed")
if __name__ == "__main__":
    main()
