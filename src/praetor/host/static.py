"""Static files of a release, which NGINX serves itself: those of the live release, then those of the one before.

A page that was loaded before a flip asks for the files that it was made with. An entity tag of NGINX's is a file's time and size, so a file's time
is made from its content: the same content has the same tag on each host, in each release.
"""

from __future__ import annotations

import hashlib
import os
import pathlib
from typing import TYPE_CHECKING

from .layout import AppHost, ReleaseError, link_atomically, remove

if TYPE_CHECKING:
    from praetor.documents import Manifest

_FIRST = 315_532_800  # seconds: 1980, and 34 years from there
_MODE = 0o755


def lay_out(host: AppHost, manifest: Manifest, place: pathlib.Path) -> None:
    """Link the files that the release's entry names into one tree, whose paths are those of URLs.

    Args:
        host: the app.
        manifest: of the release.
        place: where the release lies, with `src/` and `venv/`.

    Raises:
        ReleaseError: the release has no such file or directory.
    """
    wanted = manifest["settings"].get("static", {})
    if not wanted:
        return
    made = host.static / manifest["id"]
    remove(made)
    _directory(host.static)
    _directory(made)
    for path, named in wanted.items():
        found = _found(place, named)
        if found is None:
            raise ReleaseError(f"static: {path}: neither the project's files nor an installed package have {named}")
        _link(found, made / path.strip("/"), place)


def switch(host: AppHost, release: str) -> bool:
    """Serve the static files of a release, and those that were served until now for pages that are open; whether others were served."""
    live, before = host.static / "live", host.static / "before"
    if is_current(host, release):
        return False
    _directory(host.static)
    if live.is_symlink():
        link_atomically(live.readlink(), before)
    # A release without static files has no directory, and the link leads nowhere.
    link_atomically(pathlib.Path(release), live)
    return True


def is_current(host: AppHost, release: str) -> bool:
    """Whether the static files that are served are those of a release."""
    live = host.static / "live"
    if live.is_symlink():
        return live.readlink().name == release
    return not (host.static / release).is_dir()


def _found(place: pathlib.Path, named: str) -> pathlib.Path | None:
    roots = [place / "src", *sorted(place.glob("venv/lib/python3*/site-packages"))]
    return next((root / named for root in roots if (root / named).exists()), None)


def _link(source: pathlib.Path, target: pathlib.Path, place: pathlib.Path) -> None:
    """A file or directory; what a link leads to in its place, and nothing that lies outside the release."""
    real = source.resolve()
    if not real.is_relative_to(place.resolve()):
        return  # a place of the app's data
    if real.is_dir():
        _directory(target)
        for each in sorted(real.iterdir()):
            _link(each, target / each.name, place)
    elif real.is_file():
        target.parent.mkdir(parents=True, exist_ok=True, mode=_MODE)
        time = _FIRST + int(hashlib.sha256(real.read_bytes()).hexdigest()[:8], 16) % 2**30
        os.utime(real, (time, time))
        os.link(real, target)


def _directory(path: pathlib.Path) -> None:
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(_MODE)  # whatever the umask
