"""Who may reach an app that is not public: NGINX reads it from files of the release, which no process of the app can read."""

from __future__ import annotations

import grp
import os
import pathlib
from typing import TYPE_CHECKING

from .layout import AppHost, read_text, write_atomically

if TYPE_CHECKING:
    from praetor.documents import Manifest

READER = "www-data"


def lay_out(host: AppHost, manifest: Manifest, secrets: dict[str, str]) -> dict[str, str]:
    """Write down a release's users and the authorities of its clients, where its entry has any; the secrets that are left for the app."""
    name, authority = _named(manifest)
    if not name and not authority:
        return secrets
    reader, place = grp.getgrnam(READER).gr_gid, host.access / manifest["id"]
    for directory in (host.access, place):
        _directory(directory, reader)
    if authority:
        write_atomically(place / "authority.pem", authority, 0o640, 0, reader)
    if name:
        write_atomically(place / "users", secrets[name].rstrip("\n") + "\n", 0o640, 0, reader)
    return {key: value for key, value in secrets.items() if key != name}


def kept(host: AppHost, manifest: Manifest) -> dict[str, str]:
    """The secret that holds a release's users; none where it has no users."""
    name, _ = _named(manifest)
    return {name: read_text(host.access / manifest["id"] / "users") or ""} if name else {}


def _named(manifest: Manifest) -> tuple[str, str]:
    """The secret with the users, and the text of the authorities; empty where there are none."""
    http = manifest["settings"].get("http")
    access = http.get("access") if http else None
    return ((access["users"] or "", access["authority"] or "")) if access else ("", "")


def _directory(path: pathlib.Path, group: int) -> None:
    path.mkdir(mode=0o750, exist_ok=True)
    path.chmod(0o750)  # whatever the umask
    os.chown(path, 0, group)
