"""Runs on a host, as the app's user: fills the sample's queue, and tells what became of the jobs. `python3 - DATA add|keep|told [COUNT]`."""

from __future__ import annotations

import json
import random
import sqlite3
import sys
import time

DATA, COMMAND = sys.argv[1:3]
COUNT = int(sys.argv[3]) if len(sys.argv) > 3 else 0
jobs = sqlite3.connect(f"{DATA}/queue.db", timeout=30, isolation_level=None)


def waiting() -> int:
    """How many jobs nobody has taken."""
    found: int = jobs.execute("SELECT count(*) FROM jobs WHERE done_at IS NULL AND leased_until = 0").fetchone()[0]
    return found


def add(count: int) -> None:
    """Add jobs of 0.2 to 9 seconds, most of them short."""
    lengths = [random.choice((200, 200, 300, 400, 500, 700, random.randint(1000, 9000))) for _ in range(count)]  # noqa: S311  no secret
    jobs.execute("BEGIN IMMEDIATE")
    jobs.executemany("INSERT INTO jobs (ms) VALUES (?)", [(length,) for length in lengths])
    jobs.execute("COMMIT")


def column(statement: str) -> list[int]:
    """The first column of what a statement finds."""
    return [row[0] for row in jobs.execute(statement)]


if COMMAND == "add":
    add(COUNT)
elif COMMAND == "keep":
    add(max(COUNT - waiting(), 0))
elif COMMAND == "end":
    # What nobody has taken is not waited for.
    deadline = time.monotonic() + COUNT
    jobs.execute("DELETE FROM jobs WHERE done_at IS NULL AND leased_until = 0")
    while column("SELECT id FROM jobs WHERE done_at IS NULL") and time.monotonic() < deadline:
        time.sleep(0.2)
print(
    json.dumps(
        {
            "done": len(column("SELECT id FROM jobs WHERE done_at IS NOT NULL")),
            "not done": column("SELECT id FROM jobs WHERE done_at IS NULL AND leased_until != 0"),
            "done twice": column("SELECT job FROM runs WHERE ended IS NOT NULL GROUP BY job HAVING count(*) > 1"),
            "begun twice": column("SELECT job FROM runs GROUP BY job HAVING count(*) > 1"),
            "versions": len(column("SELECT DISTINCT version FROM runs WHERE ended IS NOT NULL")),
        }
    )
)
