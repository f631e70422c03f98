"""Locked requirements, and the wheels that satisfy them on the supported hosts. Runs on the controller."""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from packaging.requirements import Requirement as Parsed

from praetor.host.layout import ReleaseError

PYTHONS = {"cp311": "3.11", "cp313": "3.13"}  # Debian 12 and 13
_EXACT = {"3.11": "3.11.2", "3.13": "3.13.5"}  # what they have; markers ask for it
EPOCH = "315532800"  # 1980 is the beginning of time in zip files: equal input, equal wheel
GLIBC = (2, 36)  # Debian 12's, the older one

_NO_WHEEL = re.compile(r"No matching distribution found for ([^\s(]+)")
_NO_INDEX = re.compile(r"Retrying \(|Could not fetch URL")  # pip says both: it saw no file, because it saw no index
_HASH = re.compile(r"--hash[= ](\S+)")


@dataclass(frozen=True)
class Wheel:
    """A wheel on the controller. The file name says name, version and tags, PEP 427."""

    file: str
    sha256: str
    path: str

    @property
    def name(self) -> str:
        """The project's normalised name, PEP 503."""
        return normalised(self.file.split("-")[0])

    @property
    def version(self) -> str:
        """The version."""
        return self.file.split("-")[1]


@dataclass(frozen=True)
class Requirement:
    """One pinned line of a lock: `name==version ; marker --hash=...`."""

    text: str
    hashes: tuple[str, ...]

    @property
    def name(self) -> str:
        """The project's normalised name, PEP 503."""
        return normalised(re.split(r"[\s\[=<>!~;@]", self.text, maxsplit=1)[0])

    @property
    def locked(self) -> bool:
        """Pinned to one version, and to its files."""
        return "==" in self.text.split(";")[0] and bool(self.hashes)


def normalised(name: str) -> str:
    """A project's name in the one form in which names are compared, PEP 503."""
    return re.sub(r"[-_.]+", "-", name).lower()


def requirements(text: str) -> Iterator[Requirement]:
    """The requirements of a file in pip's format; options and comments are skipped.

    Raises:
        ReleaseError: the file includes another one, which a lock does not.
    """
    for line in text.replace("\\\n", " ").splitlines():
        line = re.sub(r"(^|\s)#.*$", "", line).strip()  # noqa: PLW2901  cut, not replaced
        if line.startswith(("-r", "--requirement", "-c", "--constraint", "-e", "--editable")):
            raise ReleaseError(
                f"requirements.txt: '{line}': other files and editable installs cannot be locked; list the packages themselves"
            )
        if line and not line.startswith("-"):
            yield Requirement(line.split(" --hash")[0].strip(), tuple(_HASH.findall(line)))


def is_locked(text: str) -> bool:
    """Whether each requirement is pinned with hashes."""
    found = list(requirements(text))
    return bool(found) and all(requirement.locked for requirement in found)


def lock(source: pathlib.Path, cache: pathlib.Path) -> str:
    """Resolve a requirements or pyproject file for all supported Pythons, with the hashes of all files.

    The lock of unchanged requirements is kept, so that releasing the same source again is the same release, whatever was published since.

    Raises:
        ReleaseError: no resolution; with the resolver's explanation.
    """
    kept = cache / "locks" / f"{hashlib.sha256(source.read_bytes()).hexdigest()}.txt"
    if not kept.is_file():
        kept.parent.mkdir(parents=True, exist_ok=True)
        oldest = min(PYTHONS.values())
        command = [
            tool("uv"),
            "pip",
            "compile",
            "--quiet",
            "--universal",
            "--generate-hashes",
            "--no-emit-index-url",
            "--no-header",
        ]
        temporary = temporary_for(kept)
        run(
            [*command, "--no-annotate", "--python-version", oldest, "--output-file", str(temporary), str(source)],
            "the requirements cannot be resolved",
        )
        temporary.rename(kept)
    return kept.read_text(encoding="utf-8")


def marker_environment(python: str) -> dict[str, str]:
    """The environment that markers are evaluated in, PEP 508, for a Python on a supported host."""
    return {
        "implementation_name": "cpython",
        "implementation_version": _EXACT[python],
        "os_name": "posix",
        "platform_machine": "x86_64",
        "platform_python_implementation": "CPython",
        "platform_release": "",
        "platform_system": "Linux",
        "platform_version": "",
        "python_full_version": _EXACT[python],
        "python_version": python,
        "sys_platform": "linux",
        "extra": "",
    }


def applies(requirement: Requirement, python: str) -> bool:
    """Whether the requirement's marker holds for a Python on a supported host."""
    marker = Parsed(requirement.text).marker
    return marker is None or marker.evaluate(marker_environment(python))


def fetch(locked: list[Requirement], tag: str, cache: pathlib.Path) -> list[Wheel]:
    """The wheels of locked requirements for a Python tag, downloaded once and kept by hash.

    Raises:
        ReleaseError: a requirement has no wheel for the tag (named), or the index was not reached.
    """
    lines = [
        _line(requirement)
        for requirement in sorted(locked, key=lambda requirement: requirement.name)
        if applies(requirement, PYTHONS[tag])
    ]
    digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    kept = cache / "sets" / f"{tag}-{digest}.json"
    if kept.is_file():
        wheels = [Wheel(**entry) for entry in json.loads(kept.read_text(encoding="utf-8"))]
        if all(pathlib.Path(wheel.path).is_file() for wheel in wheels):
            return wheels
    wheels = _download(lines, tag, cache)
    write(kept, json.dumps([asdict(wheel) for wheel in wheels]))
    return wheels


def build_sdist(requirement: Requirement, cache: pathlib.Path) -> Wheel:
    """The wheel of a requirement that is published as source only, built on the controller, once per locked file.

    Raises:
        ReleaseError: it cannot be built, or it compiles something and so would fit one Python only.
    """
    kept = cache / "built" / f"sdist-{hashlib.sha256(_line(requirement).encode()).hexdigest()}.json"
    if kept.is_file():
        wheel = Wheel(**json.loads(kept.read_text(encoding="utf-8")))
        if pathlib.Path(wheel.path).is_file():
            return wheel
    with tempfile.TemporaryDirectory(prefix="sdist-") as directory:
        lock_file = pathlib.Path(directory) / "lock.txt"
        lock_file.write_text(_line(requirement) + "\n", encoding="utf-8")
        command = [
            tool("python"),
            "-m",
            "pip",
            "wheel",
            "--quiet",
            "--disable-pip-version-check",
            "--no-deps",
            "--require-hashes",
        ]
        command += ["--no-binary=:all:", "--wheel-dir", directory, "--requirement", str(lock_file)]
        run(command, f"cannot build a wheel of {requirement.text}", env={**os.environ, "SOURCE_DATE_EPOCH": EPOCH})
        [built] = pathlib.Path(directory).glob("*.whl")
        if not built.name.endswith("-none-any.whl"):
            raise ReleaseError(
                f"{requirement.text} compiles something ({built.name}), so that its wheel fits one Python only; put wheels of it into your own index"
            )
        wheel = keep(built, cache)
    write(kept, json.dumps(asdict(wheel)))
    return wheel


def write(path: pathlib.Path, text: str) -> None:
    """Write a file of the cache whole or not at all, whoever else builds into it at the same time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_for(path)
    temporary.write_text(text, encoding="utf-8")
    temporary.rename(path)


def temporary_for(path: pathlib.Path) -> pathlib.Path:
    """A name in the same directory that no other process uses."""
    return path.with_name(f".{path.name}.{os.getpid()}")


def keep(path: pathlib.Path, cache: pathlib.Path) -> Wheel:
    """Copy a wheel into the cache, below its hash."""
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    place = cache / "wheels" / sha256 / path.name
    place.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_for(place)
    shutil.copyfile(path, temporary)
    temporary.rename(place)
    return Wheel(path.name, sha256, str(place))


def content_digest(wheel: pathlib.Path) -> str:
    """SHA-256 over the names and contents in a wheel: what it installs, whenever and by whichever version of a build backend it was zipped."""
    digest = hashlib.sha256()
    with zipfile.ZipFile(wheel) as archive:
        for name in sorted(archive.namelist()):
            if not name.endswith((".dist-info/RECORD", ".dist-info/WHEEL")):
                digest.update(f"{name}\0{hashlib.sha256(archive.read(name)).hexdigest()}\n".encode())
    return digest.hexdigest()


def run(command: list[str], failure: str, **options: Any) -> str:
    """Run a program and return what it printed.

    Raises:
        ReleaseError: it failed; with the last lines that it printed.
    """
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    if done.returncode != 0:
        said = "\n".join((done.stderr or done.stdout).strip().splitlines()[-20:])
        raise ReleaseError(f"{failure}:\n{said}")
    printed: str = done.stdout
    return printed


def tool(name: str) -> str:
    """A program of the controller's virtualenv."""
    return str(pathlib.Path(sys.prefix) / "bin" / name)


def _line(requirement: Requirement) -> str:
    """A requirement as pip reads it, without its marker."""
    return " ".join(
        [requirement.text.split(";")[0].strip(), *(f"--hash={value}" for value in sorted(requirement.hashes))]
    )


def _download(lines: list[str], tag: str, cache: pathlib.Path) -> list[Wheel]:
    platforms = [f"manylinux_{GLIBC[0]}_{minor}_x86_64" for minor in range(GLIBC[1], 4, -1)]
    platforms += ["manylinux2014_x86_64", "manylinux2010_x86_64", "manylinux1_x86_64"]
    command = [
        tool("python"),
        "-m",
        "pip",
        "download",
        "--quiet",
        "--disable-pip-version-check",
        "--no-deps",
        "--require-hashes",
        "--only-binary=:all:",
    ]
    command += ["--implementation=cp", f"--python-version={PYTHONS[tag]}", f"--abi={tag}", "--abi=abi3", "--abi=none"]
    command += [f"--platform={platform}" for platform in platforms]
    with tempfile.TemporaryDirectory(prefix="wheels-") as directory:
        place = pathlib.Path(directory)
        (place / "lock.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        try:
            run(
                [*command, "--dest", directory, "--requirement", str(place / "lock.txt")],
                f"cannot download the wheels for Python {PYTHONS[tag]}",
            )
        except ReleaseError as error:
            missing = _NO_WHEEL.search(str(error))
            if missing is None or _NO_INDEX.search(str(error)):
                raise
            raise ReleaseError(
                f"{missing[1]} has no wheel for Python {PYTHONS[tag]} on x86-64 Linux (glibc {GLIBC[0]}.{GLIBC[1]}). Hosts compile nothing: "
                "choose a version that publishes one (the list of files at its index shows them), put a wheel that you built into your own index, "
                f"or, if it is pure Python, let the controller build it: source.sdists: [{missing[1].split('==')[0]}]"
            ) from None
        return sorted((keep(path, cache) for path in place.glob("*.whl")), key=lambda wheel: wheel.file)
