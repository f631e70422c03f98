"""The `build` commands of an app: run in a copy of its tree on the controller, before it is packed."""

from __future__ import annotations

import hashlib
import os
import pathlib
import shutil
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import IO

from praetor.documents import Entry
from praetor.host import output
from praetor.host.layout import ReleaseError
from praetor.host.stage import unpack

from . import cache as caches
from . import sources
from .cache import Wheel
from .programs import last_lines, run, tool
from .sources import Source
from .systems import SYSTEMS, runs_here

_PYTHON = frozenset({"python", "python3"})


def run_all(app: Entry, source: Source, wheels: Mapping[str, list[Wheel]], cache: pathlib.Path) -> Source:
    """Run an app's build commands in its tree, which is a copy, and take what they made into it.

    The result for the same files, packages and commands is kept: a release of what was released before builds nothing.

    Args:
        app: the entry.
        source: a copy that may be written to.
        wheels: what the app needs, by Python tag: the commands find it in a virtualenv.
        cache: keeps results and the last output of each app's commands.

    Raises:
        ReleaseError: a command failed; with the end of its output and the place of all of it.
    """
    commands: list[list[str]] = app["build"]
    question = [sources.digest(source), commands, sorted(app["env"].items()), source.commit, sorted(_hashes(wheels))]
    key = hashlib.sha256(repr(question).encode()).hexdigest()
    kept = cache / "trees" / f"built-{key}.tar"
    if not kept.is_file():
        before = set(source.files)
        _run(app, source.tree, wheels, cache, source)
        made = sources.include(sources.built(source, before), app["source"].get("include", []), source.tree)
        sources.refuse_links_out(made)
        sources.pack(made, f"built-{key}", cache)
        return made
    shutil.rmtree(source.tree)
    source.tree.mkdir()
    with tarfile.open(kept) as archive:
        members = archive.getmembers()
        for member in members:
            unpack(archive, member, source.tree)
    return replace(source, files=tuple(sorted(pathlib.Path(member.name) for member in members)))


def _hashes(wheels: Mapping[str, list[Wheel]]) -> set[str]:
    return {wheel.sha256 for found in wheels.values() for wheel in found}


def _run(
    app: Entry, tree: pathlib.Path, wheels: Mapping[str, list[Wheel]], cache: pathlib.Path, source: Source
) -> None:
    log = cache / "logs" / f"{app['name']}-build.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="commands-") as directory, log.open("w", encoding="utf-8") as written:
        place = pathlib.Path(directory)
        (place / "data").mkdir()
        path = f"{tree}/node_modules/.bin:{os.environ.get('PATH', '/usr/bin:/bin')}"
        if any(_needs_python(command) for command in app["build"]):
            _virtualenv(app["name"], wheels, place / "venv", cache)
            path = f"{place}/venv/bin:{path}"
        env = {name: value.replace("${APP_DATA_DIR}", str(place / "data")) for name, value in app["env"].items()}
        environment = {
            **{name: value for name, value in os.environ.items() if name not in {"VIRTUAL_ENV", "PYTHONHOME"}},
            "CI": "1",
            "PYTHONPATH": f"{tree}:{tree}/src",
            "PYTHONDONTWRITEBYTECODE": "1",
            "SOURCE_DATE_EPOCH": "315532800",
            **env,
            "APP_NAME": app["name"],
            "APP_PROFILE": app["profile"],
            "APP_COMMIT": source.commit or "",
            "APP_VERSION": source.described or "",
            "APP_DATA_DIR": str(place / "data"),
            "PATH": path,
        }
        for command in app["build"]:
            _one(command, tree, environment, log, written)


def _one(
    command: Sequence[str], tree: pathlib.Path, environment: Mapping[str, str], log: pathlib.Path, written: IO[str]
) -> None:
    shown = " ".join(command)
    written.write(f"$ {shown}\n")
    written.flush()
    began = time.monotonic()
    program = shutil.which(command[0], path=environment["PATH"])
    if program is None and "/" not in command[0]:
        raise ReleaseError(f"build: '{shown}': this controller has no program {command[0]}")
    try:
        ended = output.run([program or command[0], *command[1:]], cwd=tree, env=environment, log=written)
    except OSError as error:
        raise ReleaseError(f"build: '{shown}': {error.strerror}") from None
    written.write(f"(exit status {ended.status}, {time.monotonic() - began:.1f} s)\n")
    written.flush()
    if not ended.ok:
        failure = ended._replace(command=shown).failure  # as the entry has it
        raise ReleaseError(f"build: {failure}; all of its output is in {log}:\n{last_lines(ended.printed, 25)}")


def _needs_python(command: Sequence[str]) -> bool:
    return command[0] in _PYTHON or ("/" not in command[0] and shutil.which(command[0]) is None)


def _virtualenv(app: str, wheels: Mapping[str, list[Wheel]], place: pathlib.Path, cache: pathlib.Path) -> None:
    """A virtualenv with what the app needs, of the newest of its Pythons that this controller has and whose wheels run here."""
    cache_free = [tool("uv"), "--quiet", "--no-config", "--offline", "--no-python-downloads"]
    here = [tag for tag in wheels if runs_here(tag)]
    for tag in sorted(here, key=lambda tag: SYSTEMS[tag].minor, reverse=True):
        found = subprocess.run(
            [*cache_free, "python", "find", "--no-project", "--system", SYSTEMS[tag].python],
            capture_output=True,
            text=True,
            check=False,
        )
        if found.returncode == 0:
            run(
                [*cache_free, "venv", "--python", found.stdout.strip(), str(place)], f"{app}: no virtualenv for `build`"
            )
            run(
                [*cache_free, "pip", "install", "--no-deps", "--no-index", "--python", str(place / "bin/python")]
                + [str(caches.place_of(wheel, cache)) for wheel in wheels[tag]],
                f"{app}: what it needs cannot be installed for `build`",
            )
            return
    versions = " or ".join(SYSTEMS[tag].name for tag in wheels)
    raise ReleaseError(
        f"{app}: `build` runs Python, and this controller has none of the hosts' ({versions}): install it, or build for another host's (-e pythons=)"
    )
