"""The controller's cache: files that are whole or absent, and wheels below their hashes."""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import re
import shutil
from dataclasses import dataclass

FORMAT = "2"  # another one for notes that an older version could not read, or this one could not


def place(directory: str) -> pathlib.Path:
    """Where in the directory that an operator names this version keeps things: next to those of other versions."""
    return pathlib.Path(directory).expanduser() / FORMAT


@dataclass(frozen=True)
class Wheel:
    """A wheel in the cache. The file name says name, version and tags, PEP 427."""

    file: str
    sha256: str
    needs: tuple[str, ...] = ()  # Debian packages that what was compiled here is linked with
    origin: str = (
        ""  # where it was made from, when it comes from no index: a repository with its commit, a folder of the project
    )

    @property
    def name(self) -> str:
        """The project's normalised name, PEP 503."""
        return normalised(self.file.split("-")[0])

    @property
    def version(self) -> str:
        """The version."""
        return self.file.split("-")[1]

    @property
    def pure(self) -> bool:
        """Whether it fits every Python on every machine."""
        return self.file.endswith("-none-any.whl")


def normalised(name: str) -> str:
    """A project's name in the one form in which names are compared, PEP 503."""
    return re.sub(r"[-_.]+", "-", name).lower()


def write(path: pathlib.Path, text: str) -> None:
    """Write a file of the cache whole or not at all, whoever else builds into it at the same time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_for(path)
    temporary.write_text(text, encoding="utf-8")
    temporary.rename(path)


def temporary_for(path: pathlib.Path) -> pathlib.Path:
    """A name next to a path that no other process uses."""
    return path.with_name(f".{path.name}.{os.getpid()}")


def place_of(wheel: Wheel, cache: pathlib.Path) -> pathlib.Path:
    """Where a wheel is kept."""
    return cache / "wheels" / wheel.sha256 / wheel.file


def keep(path: pathlib.Path, cache: pathlib.Path, needs: tuple[str, ...] = (), origin: str = "") -> Wheel:
    """Copy a wheel into the cache, below its hash."""
    wheel = Wheel(path.name, hashlib.sha256(path.read_bytes()).hexdigest(), needs, origin)
    place = place_of(wheel, cache)
    place.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_for(place)
    shutil.copyfile(path, temporary)
    temporary.rename(place)
    return wheel


def note(path: pathlib.Path, wheels: list[Wheel]) -> None:
    """Write down which wheels are the answer to what the file's name stands for."""
    write(path, json.dumps([wheel.__dict__ for wheel in wheels]))


def noted(path: pathlib.Path, cache: pathlib.Path) -> list[Wheel] | None:
    """The wheels that were noted, if all of them are still in the cache."""
    if not path.is_file():
        return None
    entries = json.loads(path.read_text(encoding="utf-8"))
    wheels = [Wheel(each["file"], each["sha256"], tuple(each["needs"]), each["origin"]) for each in entries]
    return wheels if all(place_of(wheel, cache).is_file() for wheel in wheels) else None
