"""How the ledger reaches its database: by DATABASE_URL alone, as any app would."""

from __future__ import annotations

import os

import psycopg


def connect() -> psycopg.Connection[tuple[int]]:
    """Open a connection that gives up soon."""
    return psycopg.connect(os.environ["DATABASE_URL"], connect_timeout=2, autocommit=True)
