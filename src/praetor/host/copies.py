"""Reads a release from this host, for another host that should serve the same. Changes nothing."""

from __future__ import annotations

import base64
import pathlib

from . import access as accesses
from .layout import AppHost, ReleaseError


def work(*, app: str, release: str, file: str = "") -> dict[str, object]:
    """The release of an app as staging takes it: `manifest`, `parts` and `secrets`; or, with `file` (SHA-256), that file of it as `content` in base64.

    `content` is None where this host does not have the file: hosts keep those for their own Python.

    Raises:
        ReleaseError: the release is not on this host.
    """
    host = AppHost(app)
    manifest = host.manifest(release)
    if manifest is None:
        raise ReleaseError(f"release {release} is gone from this host; run again")
    if file:
        found = list(host.wheels.glob(f"{file}/*"))
        return {"content": base64.b64encode(found[0].read_bytes()).decode() if found else None}
    place = host.release_dir(release)
    parts = {name: _read(place / text) for name, text in PARTS.items()}
    units = _all(place / "units") if (place / "units").is_dir() else {}
    slot = _all(place / "slot/praetor_slot")
    return {
        "manifest": manifest,
        "parts": {**parts, "slot": slot, "units": units, "env": _all(place / "env")},
        "secrets": {**_all(place / "secrets"), **accesses.kept(host, manifest)},
    }


PARTS = {"vassal": "vassal.ini", "site": "site.conf", "config": "config.yml", "sbom": "sbom.json"}


def _all(directory: pathlib.Path) -> dict[str, str]:
    return {path.name: _read(path) for path in sorted(directory.iterdir()) if path.is_file()}


def _read(path: pathlib.Path) -> str:
    with path.open(encoding="utf-8", newline="") as file:
        return file.read()
