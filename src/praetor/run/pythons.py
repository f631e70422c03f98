"""Which Python each host has, as the last survey saw it: kept on the controller, so that a build need not ask."""

from __future__ import annotations

import hashlib
import json
import pathlib
from collections.abc import Mapping
from typing import Any

from praetor.build import cache as caches


def known(cache: pathlib.Path, variables: Mapping[str, Any], host: str) -> str:
    """The wheel tag of a host's Python, as cp311; empty when nobody has asked it yet."""
    found = variables["hostvars"][host]
    version = (found.get("ansible_facts") or {}).get("python", {}).get("version", {})
    if version:  # gathered in this run
        return f"cp{version['major']}{version['minor']}"
    note = _note(cache, variables, host)
    return str(json.loads(note.read_text(encoding="utf-8"))) if note.is_file() else ""


def remember(cache: pathlib.Path, variables: Mapping[str, Any], host: str, python: str) -> None:
    """Keep what a survey saw."""
    note = _note(cache, variables, host)
    if not note.is_file() or json.loads(note.read_text(encoding="utf-8")) != python:
        caches.write(note, json.dumps(python))


def _note(cache: pathlib.Path, variables: Mapping[str, Any], host: str) -> pathlib.Path:
    """A host is the same if the same inventory says the same of where it is."""
    found = variables["hostvars"][host]
    where = [variables.get("ansible_inventory_sources"), host, found.get("ansible_host"), found.get("ansible_port")]
    digest = hashlib.sha256(json.dumps(where, default=str).encode()).hexdigest()[:16]
    return cache / "hosts" / f"{host}-{digest}.json"
