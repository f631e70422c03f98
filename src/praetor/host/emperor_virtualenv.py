"""A virtualenv from locked requirements, and a link to it."""

from __future__ import annotations

import hashlib
import pathlib
import shutil
import subprocess
import tarfile
import tempfile
from typing import Any

from .layout import ReleaseError


def work(*, check: bool, directory: str, requirements: str, uploads: str = "") -> dict[str, Any]:
    """Make a virtualenv of `requirements`, named after them, below `directory`, and point the link `venv` to it.

    Its wheels are in the archive `uploads`; without that, and if they are needed, it says so (`needs_wheels`) and changes nothing.

    Raises:
        ReleaseError: what Python or pip said.
    """
    parent = pathlib.Path(directory)
    # Named after its content, so that an upgrade never changes files under a running Emperor.
    place = parent / f"venv-{hashlib.sha256(requirements.encode()).hexdigest()[:12]}"
    link = parent / "venv"
    complete = (place / "complete").is_file()
    changed = not complete or not link.is_symlink() or link.readlink() != place
    if not changed or check:
        return {"changed": changed, "needs_wheels": False}
    if not complete and not uploads:
        return {"changed": False, "needs_wheels": True}
    if not complete:
        parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        make(place, requirements, pathlib.Path(uploads))
    new = parent / ".venv.new"
    new.unlink(missing_ok=True)
    new.symlink_to(place)
    new.rename(link)
    return {"changed": True, "needs_wheels": False}


def make(place: pathlib.Path, requirements: str, uploads: pathlib.Path) -> None:
    """Fill a virtualenv, offline and by hash; the file `complete` is written last, and a virtualenv without it is made again."""
    shutil.rmtree(place, ignore_errors=True)
    _do(["python3", "-m", "venv", str(place)])
    with tempfile.TemporaryDirectory(prefix="wheels-") as scratch:
        with tarfile.open(uploads) as archive:
            for member in archive:
                content = archive.extractfile(member)
                if content is not None:
                    (pathlib.Path(scratch) / pathlib.Path(member.name).name).write_bytes(content.read())
        lock = pathlib.Path(scratch) / "requirements.txt"
        lock.write_text(requirements, encoding="utf-8")
        options = ["--quiet", "--no-index", f"--find-links={scratch}", "--require-hashes", f"--requirement={lock}"]
        _do([str(place / "bin/pip"), "install", *options])
    (place / "complete").touch()


def _do(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise ReleaseError(
            f"{' '.join(command)} ended with {done.returncode}: {done.stderr.strip() or done.stdout.strip()}"
        )
