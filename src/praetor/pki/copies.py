"""What a controller alone has, as one text that can be kept elsewhere: the authority, and the vault's passwords. Encrypted by whoever calls."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypedDict

from .authority import load
from .pem import PemError

FILES = ("authority.pem", "key.pem")


class Kept(TypedDict):
    """The content of a copy."""

    authority: Mapping[str, str]
    """The files of the authority's directory."""
    vault: Sequence[str]
    """The vault's passwords; none where the copy is encrypted with the vault's own."""


def fingerprint(directory: Path) -> str:
    """Return what a copy of this authority is known by; an empty string where there is none."""
    file = directory / "authority.pem"
    return hashlib.sha256(file.read_bytes()).hexdigest() if file.exists() else ""


def pack(directory: Path, vault: Sequence[str]) -> str:
    """Return the text of a copy.

    Raises:
        PemError: there is no authority, or it cannot be used.

    """
    if load(directory) is None:
        raise PemError(f"{directory}: found no authority; playbooks/provision.yml makes it. Nothing was kept")
    kept: Kept = {"authority": {name: (directory / name).read_text(encoding="utf-8") for name in FILES}, "vault": vault}
    return json.dumps(kept)


def unpack(text: str, directory: Path) -> list[Path]:
    """Put a copy where a controller looks for it, and return which files were written.

    Raises:
        PemError: it is no copy, or the directory has another authority.

    """
    try:
        kept: Kept = json.loads(text)
        files = {name: kept["authority"][name] for name in FILES}
        files |= {f"vault-password-{number}": password for number, password in enumerate(kept["vault"], 1)}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise PemError("found something else than a copy of a controller. Nothing was written") from None
    there = fingerprint(directory)
    if there and there != hashlib.sha256(files["authority.pem"].encode()).hexdigest():
        raise PemError(
            f"{directory}: found another authority than that of the copy. Nothing was written. If it is of no use: move the directory away"
        )
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    # The certificate last: without it there is no authority.
    names = [*(name for name in files if name != "authority.pem"), "authority.pem"]
    return [_put(directory / name, files[name]) for name in names]


def _put(path: Path, text: str) -> Path:
    mode = 0o644 if path.name == "authority.pem" else 0o600
    new = path.with_name(f".{path.name}.new")
    new.unlink(missing_ok=True)
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    new.replace(path)
    return path
