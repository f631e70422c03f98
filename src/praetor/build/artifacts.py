"""Build an artifact once, on the controller: locked wheels of an app and everything it needs, with a manifest."""

from __future__ import annotations

import getpass
import hashlib
import io
import json
import os
import pathlib
import re
import shutil
import socket
import stat
import subprocess
import tarfile
import tempfile
import time
import tomllib
from dataclasses import asdict, dataclass
from typing import Any

from packaging.specifiers import InvalidSpecifier, SpecifierSet

from praetor.host.layout import SUN_PATH_MAX, ReleaseError
from praetor.host.stage import unpack

from . import wheels
from .wheels import PYTHONS, Wheel

# Never part of an app, even if no .gitignore says so.
_NEVER = {
    ".git",
    ".hg",
    ".venv",
    "venv",
    "__pycache__",
    ".tox",
    ".nox",
    ".mypy_cache",
    ".pytest_cache",
    ".ruff_cache",
    "node_modules",
    "dist",
    "build",
}

# The keys of an inventory entry that are part of a release; the others say where and how it is released.
SETTINGS = ("wsgi", "server_names", "profile", "config", "env", "health", "workers", "threads", "limits")


@dataclass(frozen=True)
class Source:
    """A tree of files on the controller, and what git says of it."""

    tree: pathlib.Path
    files: tuple[pathlib.Path, ...]  # relative to tree
    commit: str | None
    dirty: bool
    described: str | None  # `git describe --tags`, for projects that state no version


def build(app: dict[str, Any], cache: pathlib.Path, project: pathlib.Path, server: pathlib.Path) -> dict[str, Any]:
    """The artifact of an app: its manifest, with the wheels' places on this controller.

    Args:
        app: a checked entry of the inventory.
        cache: directory of the controller that outlives runs.
        project: what a relative `source.path` is relative to.
        server: locked requirements that hold pyuwsgi, added where the app's own lock does not name it.

    Raises:
        ReleaseError: what is wrong with the source, its requirements or its wheels.
    """
    kind = app["source"]
    if kind.get("package"):
        return _build_package(app, cache, server)
    with tempfile.TemporaryDirectory(prefix="source-") as scratch:
        if kind.get("git"):
            source = _clone(kind["git"], kind["ref"], cache, pathlib.Path(scratch))
        else:
            source = _look_at(project / kind["path"])
        return _build_tree(app, source, cache, server)


def identify(
    app: dict[str, Any], artifact: dict[str, Any], rendered: list[str], secrets: dict[str, str], cache: pathlib.Path
) -> str:
    """The release's id, `<version>-<8 hex>`: equal for equal artifact, settings, rendered files and secrets, whenever and wherever it is computed.

    It is noted in the cache, so that another inventory can release the same artifact without building it again.
    """
    settings = {name: app[name] for name in SETTINGS}
    everything = [artifact["artifact"], artifact["commit"], settings, rendered, fingerprint(app["name"], secrets)]
    digest = hashlib.sha256(_canonical(everything).encode()).hexdigest()
    longest = SUN_PATH_MAX - len(f"/run/uwsgi/{app['name']}/{app['name']}.-{digest[:8]}.99999.stats")
    version = re.sub(r"[^A-Za-z0-9.+_]", "_", artifact["version"])[: min(longest, 32)].rstrip("._+")
    release = f"{version}-{digest[:8]}"
    wheels.write(cache / "releases" / app["name"] / f"{release}.json", json.dumps(artifact))
    return release


def recorded(cache: pathlib.Path, app: str, release: str) -> dict[str, Any]:
    """The artifact of a release that this controller identified before.

    Raises:
        ReleaseError: it never did, or the artifact is gone.
    """
    notes = cache / "releases" / app
    note = notes / f"{release}.json"
    if not note.is_file():
        newest = (
            sorted(notes.glob("*.json"), key=lambda path: path.stat().st_mtime, reverse=True)[:5]
            if notes.is_dir()
            else []
        )
        known = ", ".join(path.stem for path in newest) or "none"
        raise ReleaseError(
            f"release={release}: this controller has no such release of {app}; the newest that it has: {known}"
        )
    found: dict[str, Any] = json.loads(note.read_text(encoding="utf-8"))
    return found


def fingerprint(app: str, secrets: dict[str, str]) -> str:
    """A digest of secrets from which they cannot be guessed at any useful speed: it leaves the controller as a part of the release's id."""
    if not secrets:
        return ""
    return hashlib.scrypt(
        _canonical(secrets).encode(), salt=f"release of {app}".encode(), n=2**14, r=8, p=1, dklen=16
    ).hex()


def sbom(artifact: dict[str, Any]) -> str:
    """The CycloneDX 1.6 bill of materials of an artifact, as JSON."""
    from cyclonedx.model import HashAlgorithm, HashType  # noqa: PLC0415  0.3 s that only a new artifact pays
    from cyclonedx.model.bom import Bom  # noqa: PLC0415
    from cyclonedx.model.component import Component, ComponentType  # noqa: PLC0415
    from cyclonedx.output.json import JsonV1Dot6  # noqa: PLC0415
    from packageurl import PackageURL  # noqa: PLC0415

    unique = {entry["sha256"]: entry for entries in artifact["wheels"].values() for entry in entries}
    bom = Bom()
    bom.metadata.component = Component(
        name=artifact["app"], version=artifact["version"], type=ComponentType.APPLICATION, bom_ref=artifact["app"]
    )
    for entry in sorted(unique.values(), key=lambda entry: entry["file"]):
        bom.components.add(
            Component(
                name=entry["name"],
                version=entry["version"],
                type=ComponentType.LIBRARY,
                bom_ref=entry["file"],
                purl=PackageURL("pypi", None, entry["name"], entry["version"], {"file_name": entry["file"]}),
                hashes=[HashType(alg=HashAlgorithm.SHA_256, content=entry["sha256"])],
            )
        )
    bom.register_dependency(bom.metadata.component, bom.components)
    return JsonV1Dot6(bom).output_as_string(indent=1)


def _build_package(app: dict[str, Any], cache: pathlib.Path, server: pathlib.Path) -> dict[str, Any]:
    wanted = app["source"]["package"]
    with tempfile.TemporaryDirectory(prefix="source-") as scratch:
        request = pathlib.Path(scratch) / "requirements.in"
        request.write_text(wanted + "\n", encoding="utf-8")
        locked = wheels.lock(request, cache)
    version = wanted.split("==")[1].strip()
    return _assemble(
        app,
        locked,
        None,
        None,
        {"version": version, "commit": None, "dirty": False, "source": wanted},
        list(PYTHONS),
        cache,
        server,
    )


def _build_tree(app: dict[str, Any], source: Source, cache: pathlib.Path, server: pathlib.Path) -> dict[str, Any]:
    digest = _tree_digest(source)
    pyproject = _pyproject(source)
    locked = _lock_of(source, pyproject, cache)
    pythons = _pythons(pyproject, app["name"])
    wheel = tree = None
    if "build-system" in pyproject or pathlib.Path("setup.py") in source.files:
        wheel = _own_wheel(source, pyproject, digest, cache)
        version = wheel.version
    else:
        tree = _pack(source, digest, cache)
        version = str(pyproject.get("project", {}).get("version") or source.described or digest[:8])
    kind = app["source"]
    named = f"{kind['git']}@{kind['ref']}" if kind.get("git") else str(kind["path"])
    facts = {"version": version, "commit": source.commit, "dirty": source.dirty, "source": named}
    return _assemble(app, locked, wheel, tree, facts, pythons, cache, server)


def _assemble(
    app: dict[str, Any],
    locked: str,
    own: Wheel | None,
    tree: dict[str, str] | None,
    facts: dict[str, Any],
    pythons: list[str],
    cache: pathlib.Path,
    server: pathlib.Path,
) -> dict[str, Any]:
    needed = list(wheels.requirements(locked))
    # The wheel of uWSGI is called pyuwsgi; `uwsgi` itself has none, and means the same program.
    needed = [requirement for requirement in needed if requirement.name != "uwsgi"]
    if not any(requirement.name == "pyuwsgi" for requirement in needed):
        needed += [
            requirement
            for requirement in wheels.requirements(server.read_text(encoding="utf-8"))
            if requirement.name == "pyuwsgi"
        ]
    own_name = own.name if own else None
    needed = [requirement for requirement in needed if requirement.name != own_name]
    as_source = {wheels.normalised(name) for name in app["source"].get("sdists", [])}
    unknown = as_source - {requirement.name for requirement in needed}
    if unknown:
        raise ReleaseError(f"source.sdists: {', '.join(sorted(unknown))} is nothing that {app['name']} needs")
    published = [requirement for requirement in needed if requirement.name not in as_source]
    sources = [requirement for requirement in needed if requirement.name in as_source]
    made = {
        tag: [wheels.build_sdist(each, cache) for each in sources if wheels.applies(each, PYTHONS[tag])]
        + ([own] if own else [])
        for tag in pythons
    }
    sets = {tag: wheels.fetch(published, tag, cache) + made[tag] for tag in pythons}
    identity = {
        "wheels": {tag: sorted(_identity(wheel, made[tag]) for wheel in found) for tag, found in sets.items()},
        "tree": tree["digest"] if tree else None,
    }
    artifact = hashlib.sha256(_canonical(identity).encode()).hexdigest()
    place = cache / "artifacts" / artifact
    if not _kept(place):
        manifest = {
            "app": app["name"],
            **facts,
            "artifact": artifact,
            "built_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "built_by": f"{getpass.getuser()}@{socket.gethostname()}",
            "python": pythons,
            "wheels": {
                tag: [{"name": w.name, "version": w.version, **asdict(w)} for w in found] for tag, found in sets.items()
            },
            "tree": tree,
        }
        lines = [f"{each.text} {' '.join('--hash=' + value for value in each.hashes)}\n" for each in needed]
        wheels.write(place / "lock.txt", "".join(lines))
        wheels.write(place / "sbom.json", sbom(manifest))
        wheels.write(place / "manifest.json", json.dumps(manifest, indent=1))
    found: dict[str, Any] = json.loads((place / "manifest.json").read_text(encoding="utf-8"))
    # The commit of this run, not of the first that built the same files.
    return {**found, **facts, "app": app["name"], "sbom": str(place / "sbom.json")}


def _kept(place: pathlib.Path) -> bool:
    """Whether an artifact was built before and all its files are still in the cache."""
    if not (place / "manifest.json").is_file():
        return False
    manifest = json.loads((place / "manifest.json").read_text(encoding="utf-8"))
    entries = [entry for found in manifest["wheels"].values() for entry in found]
    entries += [manifest["tree"]] if manifest["tree"] else []
    return all(pathlib.Path(entry["path"]).is_file() for entry in entries)


def _identity(wheel: Wheel, made: list[Wheel]) -> str:
    """What a wheel is: its published file, or the content of one that was made here."""
    return f"{wheel.file} {wheels.content_digest(pathlib.Path(wheel.path)) if wheel in made else wheel.sha256}"


def _look_at(tree: pathlib.Path) -> Source:
    if _git(tree, "rev-parse", "--is-inside-work-tree") != "true":
        return Source(tree, tuple(_walk(tree)), None, dirty=False, described=None)
    listed = (_git(tree, "ls-files", "-z", "--cached", "--others", "--exclude-standard") or "").split("\0")
    found: list[pathlib.Path] = []
    for path in map(pathlib.Path, filter(None, listed)):
        if _NEVER & set(path.parts) or not os.path.lexists(tree / path):
            continue
        # git names a submodule, or a repository inside this one, and not what is in it.
        inside = (tree / path).is_dir() and not (tree / path).is_symlink()
        found += [path / each for each in _walk(tree / path)] if inside else [path]
    files = tuple(sorted(found))
    commit = _git(tree, "log", "-1", "--format=%H", "--", ".") or None
    dirty = bool(_git(tree, "status", "--porcelain", "--", "."))
    # The last commit that touched the app: a commit elsewhere in the repository is no new release of it.
    return Source(
        tree,
        files,
        commit,
        dirty,
        _git(tree, "describe", "--tags", "--always", commit) if commit else None,
    )


def _clone(url: str, ref: str, cache: pathlib.Path, scratch: pathlib.Path) -> Source:
    mirror = cache / "git" / hashlib.sha256(url.encode()).hexdigest()[:16]
    failure = f"cannot get {ref} of {url}"
    # An URL is data, never an option; and a prompt would hang the run.
    environment = {**os.environ, "GIT_TERMINAL_PROMPT": "0"}
    if not (mirror / "HEAD").is_file():
        mirror.mkdir(parents=True, exist_ok=True)
        wheels.run(["git", "init", "--quiet", "--bare", str(mirror)], failure)
    wheels.run(
        [
            "git",
            "-C",
            str(mirror),
            "fetch",
            "--quiet",
            "--force",
            "--prune",
            "--tags",
            "--",
            url,
            "+refs/heads/*:refs/heads/*",
        ],
        failure,
        env=environment,
    )
    commit = _git(mirror, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}")
    if not commit:
        raise ReleaseError(f"{failure}: the repository has no branch, tag or commit of that name")
    tree = scratch / "tree"
    tree.mkdir()
    archive = subprocess.run(
        ["git", "-C", str(mirror), "archive", "--format=tar", commit], capture_output=True, check=True
    ).stdout
    try:
        with tarfile.open(fileobj=io.BytesIO(archive)) as packed:
            for member in packed:
                unpack(packed, member, tree)
    except ReleaseError as error:
        raise ReleaseError(f"{failure}: {error}") from None
    return Source(
        tree, tuple(_walk(tree)), commit, dirty=False, described=_git(mirror, "describe", "--tags", "--always", commit)
    )


def _git(tree: pathlib.Path, *words: str) -> str | None:
    # The tree may belong to another user than the one who deploys; git refuses that, as a protection for interactive use.
    command = ["git", "-c", f"safe.directory={tree.resolve()}", "-c", "safe.directory=*", "-C", str(tree), *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip("\n") if done.returncode == 0 else None


def _walk(tree: pathlib.Path) -> list[pathlib.Path]:
    found = []
    for directory, folders, names in os.walk(tree):
        folders[:] = sorted(name for name in folders if name not in _NEVER and not name.endswith(".egg-info"))
        # Links to directories are listed among the directories, and not followed.
        names += [name for name in folders if pathlib.Path(directory, name).is_symlink()]
        found += [pathlib.Path(directory, name).relative_to(tree) for name in names]
    return sorted(found)


def _tree_digest(source: Source) -> str:
    digest = hashlib.sha256()
    for path in source.files:
        full = source.tree / path
        content = str(full.readlink()).encode() if full.is_symlink() else full.read_bytes()
        executable = not full.is_symlink() and bool(full.stat().st_mode & stat.S_IXUSR)
        digest.update(f"{path}\0{executable}\0{hashlib.sha256(content).hexdigest()}\n".encode())
    return digest.hexdigest()


def _pyproject(source: Source) -> dict[str, Any]:
    path = source.tree / "pyproject.toml"
    if not path.is_file():
        return {}
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ReleaseError(f"{path}: {error}") from None


def _lock_of(source: Source, pyproject: dict[str, Any], cache: pathlib.Path) -> str:
    listed = source.tree / "requirements.txt"
    if listed.is_file():
        text = listed.read_text(encoding="utf-8")
        return text if wheels.is_locked(text) else wheels.lock(listed, cache)
    if "project" in pyproject:
        return wheels.lock(source.tree / "pyproject.toml", cache)
    raise ReleaseError(
        f"{source.tree}: found neither requirements.txt nor a [project] in pyproject.toml; one of them must say what the app needs"
    )


def _pythons(pyproject: dict[str, Any], app: str) -> list[str]:
    wanted = str(pyproject.get("project", {}).get("requires-python", ""))
    try:
        required = SpecifierSet(wanted)
    except InvalidSpecifier:
        raise ReleaseError(
            f"{app}: pyproject.toml: requires-python = '{wanted}' is no version specifier such as '>=3.11'"
        ) from None
    fitting = [tag for tag, python in PYTHONS.items() if required.contains(f"{python}.99")]
    if not fitting:
        raise ReleaseError(
            f"{app}: pyproject.toml asks for Python {required}; the supported hosts have {' and '.join(PYTHONS.values())}"
        )
    return fitting


def _export(source: Source, place: pathlib.Path) -> None:
    for path in source.files:
        target = place / path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source.tree / path, target, follow_symlinks=False)


def _own_wheel(source: Source, pyproject: dict[str, Any], digest: str, cache: pathlib.Path) -> Wheel:
    """The project's own wheel, built from a copy of just its files: once for each content, and for each tag if the version comes from git."""
    version = "" if pyproject.get("project", {}).get("version") else f"-{_scm_version(source)}"
    kept = cache / "built" / f"{digest}{version}.json"
    if kept.is_file():
        wheel = Wheel(**json.loads(kept.read_text(encoding="utf-8")))
        if pathlib.Path(wheel.path).is_file():
            return wheel
    with tempfile.TemporaryDirectory(prefix="build-") as directory:
        place = pathlib.Path(directory)
        _export(source, place / "tree")
        environment = {
            **os.environ,
            "SOURCE_DATE_EPOCH": wheels.EPOCH,
            "SETUPTOOLS_SCM_PRETEND_VERSION": _scm_version(source),
        }
        command = [
            wheels.tool("uv"),
            "build",
            "--wheel",
            "--out-dir",
            str(place / "out"),
            str(place / "tree"),
        ]
        wheels.run(command, f"cannot build a wheel of {source.tree}", env=environment)
        [built] = (place / "out").glob("*.whl")
        if not built.name.endswith("-none-any.whl"):
            raise ReleaseError(
                f"{built.name}: the project compiles something, so its wheel fits one Python only; publish wheels and use source.package"
            )
        wheel = wheels.keep(built, cache)
    wheels.write(kept, json.dumps(asdict(wheel)))
    return wheel


def _scm_version(source: Source) -> str:
    """For projects whose version is git's: the copy that is built has no history."""
    tag = (source.described or "").removeprefix("v")
    return tag if re.fullmatch(r"\d+(\.\d+)*", tag) else f"0+g{(source.commit or 'unknown')[:8]}"


def _pack(source: Source, digest: str, cache: pathlib.Path) -> dict[str, str]:
    """The tree of a project that is no package, as a tar whose bytes depend on names and contents only."""
    place = cache / "trees" / f"{digest}.tar"
    if not place.is_file():
        place.parent.mkdir(parents=True, exist_ok=True)
        temporary = wheels.temporary_for(place)
        with tarfile.open(temporary, "w", format=tarfile.PAX_FORMAT) as archive:
            for path in source.files:
                full, entry = source.tree / path, tarfile.TarInfo(str(path))
                if full.is_symlink():
                    entry.type, entry.linkname = tarfile.SYMTYPE, str(full.readlink())
                    archive.addfile(entry)
                else:
                    content = full.read_bytes()
                    entry.mode = 0o755 if full.stat().st_mode & stat.S_IXUSR else 0o644
                    entry.size = len(content)
                    archive.addfile(entry, io.BytesIO(content))
        temporary.rename(place)
    return {
        "digest": digest,
        "sha256": hashlib.sha256(place.read_bytes()).hexdigest(),
        "file": place.name,
        "path": str(place),
    }


def _canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
