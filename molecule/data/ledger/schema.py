"""The ledger's migration: `python schema.py`."""

from __future__ import annotations

from store import connect

with connect() as connection:
    connection.execute(
        "create table if not exists rows (n bigint primary key, at timestamptz not null default clock_timestamp())"
    )
