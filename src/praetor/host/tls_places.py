"""Keys and certificates on a host; the action plugin host_certificates decides what is in them."""

from __future__ import annotations

import os
import pathlib
import shutil
import subprocess
from typing import Any


def work(
    *,
    check: bool,
    root: str,
    places: dict[str, str] = {},  # noqa: B006  read only
    make_keys: list[str] = [],  # noqa: B006
    files: dict[str, str] = {},  # noqa: B006
    sites: list[str] | None = None,
) -> dict[str, Any]:
    """Look at keys and certificates below `root`, make missing keys, install files.

    A place is a directory below `root` that holds `key.pem` and a certificate, whose name `places` says. Those of `make_keys` get a key where they have none
    that can be read. Keys are made on the host and never leave it; what is returned of one is its public half. `files` are texts by their path below
    `root`; a `key.pem` is readable by root only. `sites` are all places below `sites`: what else is there is removed.

    Returns:
        `places` with what is in them, `made` and `repaired` keys, `removed` places, and the `authority` that the host has.
    """
    where = pathlib.Path(root)
    result = look(where, places, make_keys, dry=check)
    if files and not check:
        install(where, files)
    removed = [] if sites is None else strays(where / "sites", set(sites))
    for stray in [] if check else removed:
        if stray.is_dir() and not stray.is_symlink():
            shutil.rmtree(stray)
        else:
            stray.unlink()
    changed = bool(result["made"] or result["repaired"] or files or removed)
    return {"changed": changed, "removed": [str(path) for path in removed], **result}


def public_key(key: pathlib.Path) -> str:
    """Return the public half of a private key; empty if there is none that can be read."""
    # Standard input is closed: an encrypted key would ask for its passphrase.
    command = ["openssl", "pkey", "-in", str(key), "-pubout"]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    except FileNotFoundError:  # a dry run on a bare host
        return ""
    return done.stdout if done.returncode == 0 else ""


def make_key(key: pathlib.Path) -> None:
    """Make a private key; nobody else can read it at any moment."""
    key.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    new = key.with_name(".key.pem.new")
    command = ["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"]
    made = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    put(new, made, 0o600)
    new.replace(key)


def put(path: pathlib.Path, text: str, mode: int) -> None:
    """Write a file, on the disk when this returns."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def own(key: pathlib.Path, *, dry: bool) -> bool:
    """Make a key root's own again; tells whether it was not."""
    status = key.stat()
    if (status.st_mode & 0o777, status.st_uid, status.st_gid) == (0o600, os.geteuid(), os.getegid()):
        return False
    if not dry:
        os.chown(key, os.geteuid(), os.getegid())
        key.chmod(0o600)
    return True


def text(path: pathlib.Path) -> str:
    """Return what is in a file; nothing if it is not there."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def look(root: pathlib.Path, places: dict[str, str], make_keys: list[str], *, dry: bool) -> dict[str, Any]:
    """Return certificate and public key of each place; makes missing keys, and lets nobody but root read the others."""
    found, made, repaired = {}, [], []
    for place, certificate in places.items():
        key = root / place / "key.pem"
        if key.exists() and own(key, dry=dry):
            repaired.append(place)
        public = public_key(key)
        if not public and place in make_keys:
            made.append(place)
            if not dry:
                make_key(key)
                public = public_key(key)
        found[place] = {"public_key": public, "certificate": text(root / place / certificate)}
    return {"places": found, "authority": text(root / "host" / "authority.pem"), "made": made, "repaired": repaired}


def install(root: pathlib.Path, files: dict[str, str]) -> None:
    """Put files in their place, all written before the first takes its place."""
    new = {}
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        new[path] = path.with_name(f".{path.name}.new")
        put(new[path], content, 0o600 if path.name == "key.pem" else 0o644)
    for path, written in new.items():
        written.replace(path)


def strays(directory: pathlib.Path, names: set[str]) -> list[pathlib.Path]:
    """Return what lies in a directory and has none of the names."""
    return sorted(path for path in directory.iterdir() if path.name not in names) if directory.is_dir() else []
