"""Keeps numbers, each acknowledged when it is safe: rows in PostgreSQL, notes in SQLite."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from pathlib import Path

import psycopg
from flask import Flask, Response, current_app
from store import connect

_kept = threading.local()


def database() -> psycopg.Connection[tuple[int]]:
    """Return this thread's connection; a broken one is replaced."""
    found: psycopg.Connection[tuple[int]] | None = getattr(_kept, "connection", None)
    if found is None or found.closed:
        found = _kept.connection = connect()
    return found


def notes() -> sqlite3.Connection:
    """Open the file of notes."""
    found = sqlite3.connect(Path(os.environ["APP_DATA_DIR"]) / "notes.db", timeout=5, isolation_level=None)
    found.execute("pragma journal_mode=wal")
    found.execute("create table if not exists notes (n integer primary key, filler text)")
    return found


def refused(error: psycopg.Error) -> tuple[str, int]:
    """Say what the database said; the connection is given up, whatever state it is in."""
    connection, _kept.connection = getattr(_kept, "connection", None), None
    if connection is not None:
        connection.close()
    current_app.logger.warning("%s", error)
    return "the database does not do this now", 503


def write_row(n: int) -> tuple[str, int]:
    """Write one row down."""
    database().execute("insert into rows (n) values (%s) on conflict do nothing", [n])
    return "written", 201


def read_rows() -> Response:
    """Say which rows there are."""
    return Response(
        "\n".join(str(n) for (n,) in database().execute("select n from rows order by n")), mimetype="text/plain"
    )


def write_note(n: int) -> tuple[str, int]:
    """Write one note down, with enough around it that the file grows."""
    with contextlib.closing(notes()) as file:
        file.execute("insert or ignore into notes values (?, ?)", (n, "x" * 2000))
    return "written", 201


def ready() -> str:
    """Say whether rows can be written."""
    database().execute("select 1")
    return "ready"


app = Flask(__name__)
app.register_error_handler(psycopg.Error, refused)
app.add_url_rule("/rows/<int:n>", view_func=write_row, methods=["POST"])
app.add_url_rule("/rows", view_func=read_rows)
app.add_url_rule("/notes/<int:n>", view_func=write_note, methods=["POST"])
app.add_url_rule("/ready", view_func=ready)
