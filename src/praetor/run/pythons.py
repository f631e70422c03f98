"""Remembers on the controller which system each host had at the last survey, so that a build need not ask."""

from __future__ import annotations

import hashlib
import json
import pathlib
from collections.abc import Mapping
from typing import Any

from praetor.build import cache as caches
from praetor.host.stage import system_tag


def known(cache: pathlib.Path, variables: Mapping[str, Any], host: str) -> str:
    """The tag of a host's system, as cp311 or cp313-aarch64; empty when nobody has asked it yet."""
    if tag := gathered(variables["hostvars"][host]):
        return tag
    note = _note(cache, variables, host)
    return str(json.loads(note.read_text(encoding="utf-8"))) if note.is_file() else ""


def gathered(variables: Mapping[str, Any]) -> str:
    """The tag of a host's system by the facts that this run has gathered; empty where it has not."""
    facts = variables.get("ansible_facts") or {}
    version = facts.get("python", {}).get("version", {})
    return system_tag(version["major"], version["minor"], facts["architecture"]) if version else ""


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
