"""Build an artifact once, on the controller: locked wheels of an app and everything it needs, with a manifest."""

from __future__ import annotations

import getpass
import hashlib
import json
import pathlib
import re
import socket
import tempfile
import time
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from packaging.requirements import Requirement as Parsed
from packaging.specifiers import InvalidSpecifier, SpecifierSet

from praetor.documents import Artifact, Entry, Facts, Origin, TreeEntry
from praetor.host.layout import ReleaseError

from . import contents, locks, requirements, sources, steps, wheels
from .cache import Wheel, normalised, place_of, write
from .locks import Asked, Lock
from .manifest import canonical, entry_of, files_of, sbom
from .programs import without_credentials
from .requirements import Requirement
from .sources import Source
from .systems import SYSTEMS, WITHOUT_HOSTS, named, on_this_processor, runs_here


@dataclass
class _Parts:
    """What an artifact is put together from."""

    app: Entry
    lock: Lock
    pythons: list[str]
    wheels: dict[str, list[Wheel]] = field(default_factory=dict)
    made: set[str] = field(default_factory=set)  # SHA-256 of wheels that were made here
    tree: TreeEntry | None = None


def build(
    app: Entry,
    cache: pathlib.Path,
    project: pathlib.Path,
    server: pathlib.Path,
    pythons: Sequence[str] = WITHOUT_HOSTS,
    *,
    upgrade: bool = False,
) -> Artifact:
    """The artifact of an app.

    Args:
        app: a checked entry of the inventory.
        cache: directory of the controller that outlives runs.
        project: what a relative `source.path` is relative to.
        server: locked requirements that hold pyuwsgi, added where the app's own lock does not name it.
        pythons: tags of the hosts' systems.
        upgrade: resolve again what no lock of the project decides.

    Raises:
        ReleaseError: what is wrong with the source, its requirements or its wheels.
    """
    wanted = app["source"]
    if wanted.get("package"):
        asked = Asked.of(wanted, pythons, upgrade=upgrade)
        parts = _Parts(app, locks.of_package(wanted["package"], asked, cache), list(pythons))
        _gather(parts, server, None, cache)
        version = str(next(iter(Parsed(wanted["package"]).specifier)).version)
        facts = _facts(version, None, wanted["package"], parts.lock)
        contents.refuse_missing(app, parts.wheels[parts.pythons[0]], None, None, cache)
        return _assembled(parts, facts, cache)
    with tempfile.TemporaryDirectory(prefix="source-") as scratch:
        source = sources.get(wanted, project, cache, pathlib.Path(scratch), copy=bool(app["build"]))
        return _build_tree(app, source, cache, server, pythons, upgrade=upgrade)


def _build_tree(
    app: Entry,
    source: Source,
    cache: pathlib.Path,
    server: pathlib.Path,
    pythons: Sequence[str],
    *,
    upgrade: bool,
) -> Artifact:
    wanted = app["source"]
    pyproject = _pyproject(source)
    fitting = _pythons(pyproject, app["name"], pythons)
    lock = locks.of_project(source, pyproject, Asked.of(wanted, fitting, upgrade=upgrade), cache)
    parts = _Parts(app, lock, fitting)
    packaged = _is_package(source, pyproject)
    own_name = str(pyproject.get("project", {}).get("name", "")) if packaged else ""
    _gather(parts, server, source, cache, without=own_name)
    if app["build"]:
        wheels_here = parts.wheels
        if not any(runs_here(tag) for tag in fitting):
            here = _Parts(app, lock, on_this_processor(fitting))
            _gather(here, server, source, cache, without=own_name)
            wheels_here = here.wheels
        source = steps.run_all(app, source, wheels_here, cache)
    digest = sources.digest(source)
    left_out, first = list(source.left_out), None
    if packaged:
        static = pyproject.get("project", {}).get("version")
        scm = wheels.scm_version(source)
        key = digest if static else f"{digest}-{scm}"
        own = wheels.made_of_tree(source, key, fitting, lock.indexes, app["build_packages"], cache, scm)
        _add(parts, own, made=True)
        first = next(iter(own.values()))
        version = first.version
        # What the entry names and the wheel has not lies next to it, as it is.
        asked, lacking = set(sources.matching(source, wanted.get("include", []))), contents.not_in(first, source, cache)
        left_out += _left_out_by_backend([path for path in lacking if path not in asked], place_of(first, cache))
        source = replace(source, files=tuple(path for path in lacking if path in asked))
        digest = sources.digest(source)
    else:
        version = str(pyproject.get("project", {}).get("version") or source.described or digest[:8])
    if source.files or not packaged:
        packed = sources.pack(source, digest, cache)
        parts.tree = {"digest": packed["digest"], "file": packed["file"], "sha256": packed["sha256"]}
    contents.refuse_missing(app, parts.wheels[fitting[0]], source, first, cache)
    facts = _facts(version, source, _named(wanted), lock)
    facts["left_out"] = left_out
    return _assembled(parts, facts, cache)


def _named(wanted: Origin) -> str:
    """Where an app comes from, for people on any machine."""
    if wanted.get("git"):
        inside = f" in {wanted['subdir']}" if wanted.get("subdir") else ""
        url = without_credentials(wanted["git"])
        return f"{url.rpartition('/')[2] if url.startswith('file:') else url}@{wanted['ref']}{inside}"
    path = pathlib.Path(wanted["path"])
    return path.name if path.is_absolute() or ".." in path.parts else str(path)


def _facts(version: str, source: Source | None, named: str, lock: Lock) -> Facts:
    return {
        "version": version,
        "commit": source.commit if source else None,
        "dirty": source.dirty if source else False,
        "source": named,
        "locked_by": lock.origin,
        "left_out": [],
    }


def _gather(
    parts: _Parts, server: pathlib.Path, source: Source | None, cache: pathlib.Path, *, without: str = ""
) -> None:
    """The wheels of all that the lock names: published ones, those in the project, and what is made here of source.

    Raises:
        ReleaseError: what cannot be had, all of it at once.
    """
    needed = _needed(parts.lock, source, without)
    parts.wheels = {tag: [] for tag in parts.pythons}
    problems = []
    for each in needed:
        if each.path is not None or each.git is not None:
            try:
                tags = [tag for tag in parts.pythons if requirements.applies(each, tag)]
                _add(parts, _special(parts, each, tags, source, cache) if tags else {}, made=True)
            except ReleaseError as error:
                problems.append(str(error))
    published = [each for each in needed if each.path is None and each.git is None]
    problems += _add_published(parts, published, cache)
    if not any(each.name == "pyuwsgi" for each in needed):
        # Of the Emperor's own lock, and from where the Emperor's comes: a project's private index may not have it.
        known = requirements.parsed(server.read_text(encoding="utf-8"))
        pyuwsgi = [each for each in known if each.name == "pyuwsgi"]
        for tag in parts.pythons:
            parts.wheels[tag] += wheels.fetch(pyuwsgi, tag, None, cache)[0]
    if problems:
        raise ReleaseError("\n".join(problems))


def _needed(lock: Lock, source: Source | None, without: str) -> list[Requirement]:
    """What a lock names but for the project itself, and for uWSGI: the wheel of that is called pyuwsgi, and `uwsgi` has none."""
    skipped = {"uwsgi", *([normalised(without)] if without else [])}
    at = source.at.resolve() if source is not None else None
    named = [each for each in lock.requirements if each.name not in skipped or each.path is not None]
    return [each for each in named if each.path is None or each.path.resolve() != at]


def _add_published(parts: _Parts, published: list[Requirement], cache: pathlib.Path) -> list[str]:
    """Fetch what is published, and make what is published as source only; returns what could not be had."""
    absent: dict[str, tuple[Requirement, list[str]]] = {}
    for tag in parts.pythons:
        found, lacking = wheels.fetch(published, tag, parts.lock.indexes, cache)
        parts.wheels[tag] += found
        for each in lacking:
            absent.setdefault(each.name, (each, []))[1].append(tag)
    problems = []
    packages = parts.app["build_packages"]
    for each, tags in absent.values():
        try:
            _add(parts, wheels.made_of_source(each, tags, parts.lock.indexes, packages, cache), made=True)
        except ReleaseError as error:
            about = f"{each.name}=={each.version} has no wheel for Python {named(tags)}, and its source: {error}"
            problems.append(f"{about}\n  -> {wheels.advice(each.name, packages)}")
    return problems


def _special(
    parts: _Parts, each: Requirement, tags: list[str], source: Source | None, cache: pathlib.Path
) -> dict[str, Wheel]:
    """A requirement that comes from the project itself or from a repository."""
    packages = parts.app["build_packages"]
    if each.git is not None:
        return wheels.from_git(each, tags, parts.lock.indexes, packages, cache)
    path = each.path
    if path is None or source is None:
        raise ReleaseError(f"{each.text}: a path means nothing for a package of an index")
    if path.is_dir():
        part = sources.below(source, path)
        key = f"folder-{sources.digest(part)}"
        origin = f"{path.name} of the project"
        return wheels.made_of_tree(
            part, key, tags, parts.lock.indexes, packages, cache, wheels.scm_version(part), origin
        )
    if path.suffix != ".whl":
        raise ReleaseError(
            f"{path.name}: a packed source; unpack it into a folder of the project, and require the folder"
        )
    return wheels.own_file(each, tags, cache)


def _add(parts: _Parts, made_by_tag: Mapping[str, Wheel], *, made: bool) -> None:
    for tag, wheel in made_by_tag.items():
        parts.wheels[tag].append(wheel)
        if made:
            parts.made.add(wheel.sha256)


def _assembled(parts: _Parts, facts: Facts, cache: pathlib.Path) -> Artifact:
    sets = {tag: sorted(found, key=lambda wheel: wheel.file) for tag, found in parts.wheels.items()}
    identity = {
        "wheels": {tag: sorted(_identity(wheel, parts.made, cache) for wheel in found) for tag, found in sets.items()},
        "tree": parts.tree["digest"] if parts.tree else None,
    }
    artifact = hashlib.sha256(canonical(identity).encode()).hexdigest()
    place = cache / "artifacts" / artifact
    if not _kept(place, cache):
        manifest: Artifact = {
            "app": parts.app["name"],
            **facts,
            "artifact": artifact,
            "built_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "built_by": f"{getpass.getuser()}@{socket.gethostname()}",
            "python": parts.pythons,
            "wheels": {tag: [entry_of(wheel) for wheel in found] for tag, found in sets.items()},
            "tree": parts.tree,
            "packages": {tag: sorted({need for wheel in found for need in wheel.needs}) for tag, found in sets.items()},
        }
        lines = [f"{without_credentials(_locked_line(each))}\n" for each in parts.lock.requirements]
        write(place / "lock.txt", "".join(lines))
        write(place / "sbom.json", sbom(manifest))
        write(place / "manifest.json", json.dumps(manifest, indent=1))
    found: Artifact = json.loads((place / "manifest.json").read_text(encoding="utf-8"))
    # The commit of this run, not of the first that built the same files.
    return {**found, **facts, "app": parts.app["name"]}


def _locked_line(each: Requirement) -> str:
    return " ".join([each.text, *(f"--hash={value}" for value in each.hashes)])


def _kept(place: pathlib.Path, cache: pathlib.Path) -> bool:
    """Whether an artifact was built before and all its files are still in the cache."""
    if not (place / "manifest.json").is_file():
        return False
    manifest = json.loads((place / "manifest.json").read_text(encoding="utf-8"))
    return all(path.is_file() for path in files_of(manifest, cache).values())


def _identity(wheel: Wheel, made: set[str], cache: pathlib.Path) -> str:
    """What a wheel is: its published file, or the content of one that was made here."""
    return f"{wheel.file} {wheels.content_digest(place_of(wheel, cache)) if wheel.sha256 in made else wheel.sha256}"


def _pyproject(source: Source) -> dict[str, Any]:
    path = source.tree / "pyproject.toml"
    if not path.is_file():
        return {}
    try:
        return tomllib.loads(requirements.text_of(path, "pyproject.toml"))
    except tomllib.TOMLDecodeError as error:
        raise ReleaseError(f"{path}: {error}") from None


def _is_package(source: Source, pyproject: Mapping[str, Any]) -> bool:
    """Whether the project is to be installed as a wheel, rather than run from its files.

    A setup.py next to requirements.txt decides nothing: many projects keep one that nobody uses.
    """
    if pyproject.get("tool", {}).get("uv", {}).get("package") is False:
        return False
    if pyproject.get("tool", {}).get("poetry", {}).get("package-mode") is False:
        return False
    if "build-system" in pyproject:
        described = {"project", "tool"} & set(pyproject) or (source.tree / "setup.py").is_file()
        return bool(described) or (source.tree / "setup.cfg").is_file()
    has_setup = any((source.tree / name).is_file() for name in ("setup.py", "setup.cfg"))
    return has_setup and not (source.tree / "requirements.txt").is_file() and _has_setup(source)


def _has_setup(source: Source) -> bool:
    if (source.tree / "setup.py").is_file():
        return True
    return (
        re.search(r"^\[metadata\]", (source.tree / "setup.cfg").read_text(encoding="utf-8"), re.MULTILINE) is not None
    )


def _pythons(pyproject: Mapping[str, Any], app: str, asked: Sequence[str]) -> list[str]:
    wanted = str(pyproject.get("project", {}).get("requires-python", ""))
    try:
        required = SpecifierSet(wanted)
    except InvalidSpecifier:
        raise ReleaseError(
            f"{app}: pyproject.toml: requires-python = '{wanted}' is no version specifier such as '>=3.11'"
        ) from None
    fitting = [tag for tag in SYSTEMS if tag in asked and required.contains(f"{SYSTEMS[tag].python}.99")]
    if not fitting:
        had = named([tag for tag in SYSTEMS if tag in asked])
        raise ReleaseError(f"{app}: pyproject.toml asks for Python {required}; the hosts have {had}")
    return fitting


def _left_out_by_backend(lacking: Sequence[pathlib.Path], wheel: pathlib.Path) -> list[str]:
    """Those of a project's files that belong to a package in its wheel and are not in it: templates and the like that were not declared."""
    packages = {name.partition("/")[0] for name in wheels.names_in(wheel) if "/" in name and ".dist-info/" not in name}
    found = []
    for path in lacking:
        parts = path.parts[1:] if path.parts[0] in {"src", "lib"} else path.parts
        if len(parts) > 1 and parts[0] in packages and path.suffix not in {".pyc", ".pyx", ".c", ".h", ".cpp"}:
            found.append(sources.shown(path))
    return [f"{name} (not put into the wheel by the project's build backend)" for name in found]
