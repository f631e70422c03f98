"""Which version of what an app gets: the lock that its project brings, or a resolution that is kept."""

from __future__ import annotations

import hashlib
import os
import pathlib
import re
import tempfile
import time
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from packaging.pylock import Package, Pylock, PylockValidationError

from praetor.documents import Origin
from praetor.host.layout import ReleaseError

from . import indexes, requirements
from .cache import write
from .indexes import Indexes
from .programs import run, tool
from .requirements import Requirement, Told
from .sources import Source
from .systems import SYSTEMS

# What other tools lock with, and the command that writes it down for pip. Their files are not read: each tool has own words for markers and sources.
_EXPORTS = {
    "poetry.lock": "poetry export --format requirements.txt --output requirements.txt   (its plugin poetry-plugin-export)",
    "Pipfile.lock": "pipenv requirements --hash > requirements.txt",
    "pdm.lock": "pdm export --format requirements --output requirements.txt",
}
_NEEDS_A_BUILD = re.compile(r"[Ff]ailed to build|[Bb]uild backend|Call to `")
Resolver = Callable[[list[str], Mapping[str, str], pathlib.Path], str]


@dataclass(frozen=True)
class Lock:
    """What is installed, and who chose it."""

    requirements: tuple[Requirement, ...]
    origin: str  # for people
    indexes: Indexes  # where it is taken from


@dataclass(frozen=True)
class Asked:
    """What an entry of the inventory says about requirements, and for which Pythons."""

    file: str  # empty: the first that the project has
    extras: tuple[str, ...]
    more: tuple[str, ...]
    pythons: tuple[str, ...]  # tags of systems
    upgrade: bool  # resolve again what no lock of the project decides

    @classmethod
    def of(cls, wanted: Origin, pythons: Sequence[str], *, upgrade: bool) -> Asked:
        """From `source` of an entry."""
        extras, more = tuple(wanted.get("extras", [])), tuple(wanted.get("extra_requirements", []))
        return cls(wanted.get("requirements") or "", extras, more, tuple(pythons), upgrade)

    @property
    def lowest(self) -> str:
        """The oldest Python that it is for."""
        return min((SYSTEMS[tag] for tag in self.pythons), key=lambda system: system.minor).python


def of_package(wanted: str, asked: Asked, cache: pathlib.Path) -> Lock:
    """The lock of a published package."""
    found = indexes.known(None, Indexes())
    with tempfile.TemporaryDirectory(prefix="lock-") as directory:
        place = pathlib.Path(directory)
        (place / "requirements.in").write_text("\n".join([wanted, *asked.more]) + "\n", encoding="utf-8")
        return _resolved(["requirements.in"], place, [place / "requirements.in"], found, asked, cache)


def of_project(source: Source, pyproject: Mapping[str, Any], asked: Asked, cache: pathlib.Path) -> Lock:
    """The lock of a project: its own, or a resolution of what it says it needs.

    Raises:
        ReleaseError: it does not say what it needs, locks it in a form that is not read, or there is no resolution.
    """
    name = asked.file or _chosen(source, pyproject)
    path = source.at / name
    if not path.is_file():
        raise ReleaseError(f"source.requirements: {name}: there is no such file in {source.at}")
    told = Told()
    if path.name == "uv.lock":
        lock = _of_uv(source, path, asked)
    elif re.fullmatch(r"pylock(\..+)?\.toml", path.name):
        lock = _of_pylock(source, path, asked)
    else:
        inputs = [name]
        if path.suffix not in {".toml", ".py", ".cfg"}:
            told = requirements.read(path, source.at)
            if not told.locked and name == "requirements.txt" and not asked.file and "project" in pyproject:
                inputs.append("pyproject.toml")  # the one often names a part, and pins, of what the other needs
        found = indexes.known(source.at, told.indexes)
        if told.locked:
            lock = Lock(tuple(told.requirements), name, found)
        else:
            return _resolved(inputs, source.at, _files_of(source, inputs, told), found, asked, cache, pre=told.pre)
    return _with_more(lock, source, asked, cache)


def _chosen(source: Source, pyproject: Mapping[str, Any]) -> str:
    """The file of a project that decides: a lock before what is none."""
    at = source.at
    listed = at / "requirements.txt"
    if name := _uv_lock(at):
        return name
    if (at / "pylock.toml").is_file():
        return "pylock.toml"
    if not (listed.is_file() and requirements.read(listed, at).locked):
        _refuse_other_locks(at)
    if listed.is_file():
        return "requirements.txt"
    if "project" in pyproject:
        return "pyproject.toml"
    for name in ("setup.py", "setup.cfg"):
        if (at / name).is_file():
            return name
    raise ReleaseError(
        f"{at.name}: found neither requirements.txt nor a [project] in pyproject.toml; one of them must say what the app needs "
        "(a file of another name: source.requirements)"
    )


def _uv_lock(at: pathlib.Path) -> str:
    """The project's uv.lock, which may be that of a workspace around it, relative to the project."""
    if (at / "uv.lock").is_file():
        return "uv.lock"
    for folder in at.resolve().parents:
        if (folder / "uv.lock").is_file() and "workspace" in _tool_uv(folder / "pyproject.toml"):
            return os.path.relpath(folder / "uv.lock", at.resolve())
        if (folder / ".git").exists():
            break
    return ""


def _refuse_other_locks(at: pathlib.Path) -> None:
    for name, command in _EXPORTS.items():
        if (at / name).is_file():
            raise ReleaseError(
                f"{name}: found a lock that the build does not read, expected uv.lock, pylock.toml or requirements.txt with hashes. "
                f"Write it down with\n    {command}\nor name the file that is to decide instead: source.requirements"
            )


def _tool_uv(path: pathlib.Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    found: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8")).get("tool", {}).get("uv", {})
    return found


def _of_uv(source: Source, path: pathlib.Path, asked: Asked) -> Lock:
    command = [tool("uv"), "export", "--frozen", "--no-emit-project", "--no-dev", "--format", "requirements.txt"]
    command += ["--no-header", "--no-annotate", "--quiet", "--no-python-downloads"]
    command += [word for extra in asked.extras for word in ("--extra", extra)]
    found = indexes.known(source.at, Indexes())
    printed = run(command, f"{path.name} cannot be read", env=found.variables(), cwd=source.at)
    return Lock(tuple(requirements.parsed(printed, path.parent)), path.name, found)


def _of_pylock(source: Source, path: pathlib.Path, asked: Asked) -> Lock:
    if asked.extras:
        raise ReleaseError(f"source.extras: {path.name} is for one choice of extras; export it with these")
    try:
        parsed = Pylock.from_dict(tomllib.loads(requirements.text_of(path, path.name)))
    except (tomllib.TOMLDecodeError, PylockValidationError) as error:
        raise ReleaseError(f"{path.name}: {error}") from None
    found = indexes.known(source.at, Indexes(first=sorted({str(each.index) for each in parsed.packages if each.index})))
    return Lock(tuple(_of_package(each, path) for each in parsed.packages), path.name, found)


def _of_package(package: Package, path: pathlib.Path) -> Requirement:
    marker = f" ; {package.marker}" if package.marker else ""
    if package.vcs:
        part = f"#subdirectory={package.vcs.subdirectory}" if package.vcs.subdirectory else ""
        where = package.vcs.url or str(path.parent / str(package.vcs.path))
        text = f"{package.name} @ {package.vcs.type}+{where}@{package.vcs.commit_id}{part}"
    elif package.directory:
        text = f"./{package.directory.path}"
    elif package.archive:
        text = f"{package.name} @ {package.archive.url}" if package.archive.url else f"./{package.archive.path}"
    else:
        text = f"{package.name}=={package.version}"
    listed = [each.hashes for each in package.wheels or []]
    listed += [package.sdist.hashes] if package.sdist else []
    listed += [package.archive.hashes] if package.archive else []
    hashes = sorted({f"{kind}:{value}" for each in listed for kind, value in each.items()})
    return Requirement(text + marker, tuple(hashes), path.parent)


def _files_of(source: Source, inputs: list[str], told: Told) -> list[pathlib.Path]:
    """All that a resolution depends on: the files themselves, and what the project's own folders need."""
    found = [*told.files, *(source.at / name for name in inputs)]
    folders = [each.path for each in told.requirements if each.path is not None and each.path.is_dir()]
    folders += [source.at] if "setup.py" in inputs or "pyproject.toml" in inputs else []
    found += [folder / name for folder in folders for name in ("pyproject.toml", "setup.py", "setup.cfg")]
    return [path for path in dict.fromkeys(found) if path.is_file()]


def _resolved(
    inputs: list[str],
    at: pathlib.Path,
    files: list[pathlib.Path],
    found: Indexes,
    asked: Asked,
    cache: pathlib.Path,
    *,
    pre: bool = False,
    constraints: str = "",
) -> Lock:
    """Resolve for the lowest of the Pythons and all above it, with the hashes of all files.

    The answer to an unchanged question is kept, so that releasing the same source again is the same release, whatever was published since.

    Raises:
        ReleaseError: no resolution; with the resolver's explanation.
    """
    extras = [word for extra in asked.extras for word in ("--extra", extra)]
    question = hashlib.sha256("\0".join([*inputs, *extras, *asked.more, asked.lowest, constraints]).encode())
    for path in files:
        question.update(f"\0{os.path.relpath(path, at)}\0".encode() + path.read_bytes())
    kept = cache / "locks" / f"{question.hexdigest()}.txt"
    if asked.upgrade or not kept.is_file():
        command = ["pip", "compile", "--quiet", "--universal", "--generate-hashes", "--no-emit-index-url"]
        command += ["--no-header", "--no-annotate", "--python-version", asked.lowest, *extras]
        command += ["--prerelease", "allow"] if pre else []
        with tempfile.TemporaryDirectory(prefix="lock-") as directory:
            more = pathlib.Path(directory) / "more.in"
            more.write_text("".join(f"{each}\n" for each in asked.more), encoding="utf-8")
            pins = pathlib.Path(directory) / "pins.txt"
            pins.write_text(constraints, encoding="utf-8")
            command += [*inputs, *([str(more)] if asked.more and "requirements.in" not in inputs else [])]
            command += ["--constraint", str(pins)] if constraints else []
            printed = _compile(command, found, at)
        kept.parent.mkdir(parents=True, exist_ok=True)
        write(kept, printed)
    day = time.strftime("%Y-%m-%d", time.gmtime(kept.stat().st_mtime))
    origin = f"{' and '.join(each for each in inputs if each != 'requirements.in') or 'the package'}, resolved on {day}"
    return Lock(tuple(requirements.parsed(kept.read_text(encoding="utf-8"), at)), origin, found)


def _compile(command: list[str], found: Indexes, at: pathlib.Path) -> str:
    return run([tool("uv"), *command], "the requirements cannot be resolved", env=found.variables(), cwd=at)


def _with_more(lock: Lock, source: Source, asked: Asked, cache: pathlib.Path) -> Lock:
    """A project's lock, and what the entry wants besides, in versions that fit it."""
    if not asked.more:
        return lock
    pins = "".join(f"{each.name}=={each.version}\n" for each in lock.requirements if each.version)
    more = _resolved([], source.at, [], lock.indexes, asked, cache, constraints=pins)
    names = {each.name for each in lock.requirements}
    added = tuple(each for each in more.requirements if each.name not in names)
    return replace(
        lock, requirements=(*lock.requirements, *added), origin=f"{lock.origin} and source.extra_requirements"
    )
