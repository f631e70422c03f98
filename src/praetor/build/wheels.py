"""The wheels that satisfy locked requirements on the supported hosts: published ones, and those that are made on the controller."""

from __future__ import annotations

import hashlib
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping, Sequence

from packaging.tags import compatible_tags, cpython_tags
from packaging.utils import parse_wheel_filename

from praetor.host.layout import ReleaseError

from . import debian, requirements, sources
from .cache import Wheel, keep, normalised, note, noted
from .indexes import Indexes
from .programs import last_lines, run, tool, without_credentials
from .requirements import Requirement
from .sources import Source
from .systems import SYSTEMS

EPOCH = "315532800"  # 1980 is the beginning of time in zip files: equal input, equal wheel

_NO_WHEEL = re.compile(r"No matching distribution found for ([^\s(;]+)")
_NO_INDEX = re.compile(r"Retrying \(|Could not fetch URL")  # pip says both: it saw no file, because it saw no index
_COMPILES = re.compile(
    r"\b(gcc|g\+\+|cc|clang|cmake|meson|ninja|cargo|rustc|pkg-config|pkgconf)\b|\.h: No such file|[-_]config\b|compil",
    re.IGNORECASE,
)
# What is published as source, and what has the same module as a wheel.
ALTERNATIVES = {
    "psycopg2": "psycopg2-binary",
    "mysqlclient": "PyMySQL (with pymysql.install_as_MySQLdb())",
    "uwsgi": "pyuwsgi",
    "pycrypto": "pycryptodome",
    "python-ldap": "ldap3 (another API)",
    "m2crypto": "cryptography (another API)",
    "pylibmc": "pymemcache (another API)",
    "misaka": "mistune (another API)",
    "sklearn": "scikit-learn",
}
# What the sources of some need, as Debian calls it.
BUILD_PACKAGES = {
    "psycopg2": "libpq-dev",
    "mysqlclient": "libmariadb-dev, pkgconf",
    "python-ldap": "libldap-dev, libsasl2-dev",
    "pycairo": "libcairo2-dev, pkgconf",
    "pygraphviz": "libgraphviz-dev",
    "xmlsec": "libxmlsec1-dev, pkgconf",
    "lxml": "libxml2-dev, libxslt1-dev",
    "pillow": "libjpeg-dev, zlib1g-dev",
    "pyodbc": "unixodbc-dev",
    "cffi": "libffi-dev",
    "misaka": "libffi-dev",
    "cryptography": "cargo, libssl-dev, pkgconf",
    "pycurl": "libcurl4-openssl-dev, libssl-dev",
    "pylibmc": "libmemcached-dev",
    "gssapi": "libkrb5-dev",
    "dbus-python": "libdbus-1-dev, libglib2.0-dev",
}


def fetch(
    locked: Sequence[Requirement], tag: str, indexes: Indexes | None, cache: pathlib.Path
) -> tuple[list[Wheel], list[Requirement]]:
    """The published wheels of locked requirements for a Python tag, downloaded once and kept by hash; and the requirements that have none.

    Raises:
        ReleaseError: an index was not reached, does not have the package at all, or has another file.
    """
    needed = [each for each in locked if requirements.applies(each, tag)]
    lines = sorted({each.line for each in needed})
    digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    kept = cache / "sets" / f"{tag}-{digest}.json"
    without: list[Requirement] = []
    wheels = noted(kept, cache)
    if wheels is None:
        # pip names one at a time; the operator is told of all in one run.
        while True:
            absent = {each.name for each in without}
            try:
                wheels = _download([each.line for each in needed if each.name not in absent], tag, indexes, cache)
                break
            except _NoWheelError as error:
                [named] = [each for each in needed if each.name == requirements.Requirement(error.name).name]
                _refuse_what_no_index_has(named, indexes)
                without.append(named)
        if not without:
            note(kept, wheels)
    return wheels, without


class _NoWheelError(ReleaseError):
    """A requirement has no wheel for a Python tag."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


def _download(lines: list[str], tag: str, indexes: Indexes | None, cache: pathlib.Path) -> list[Wheel]:
    system = SYSTEMS[tag]
    command = [tool("python"), "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
    command += ["--only-binary=:all:", "--disable-pip-version-check"]
    command += [
        "--implementation=cp",
        f"--python-version={system.python}",
        f"--abi={system.abi}",
        "--abi=abi3",
        "--abi=none",
    ]
    command += [f"--platform={platform}" for platform in system.platforms]
    with tempfile.TemporaryDirectory(prefix="wheels-") as directory:
        place = pathlib.Path(directory)
        (place / "lock.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
        if lines:
            try:
                run(
                    [*command, "--dest", directory, "--requirement", str(place / "lock.txt")],
                    f"cannot download the wheels for {system}",
                    env=indexes.variables() if indexes else None,
                )
            except ReleaseError as error:
                missing = _NO_WHEEL.search(str(error))
                if missing is None or _NO_INDEX.search(str(error)):
                    raise
                raise _NoWheelError(missing[1]) from None
        return sorted((keep(path, cache) for path in place.glob("*.whl")), key=lambda wheel: wheel.file)


def _refuse_what_no_index_has(requirement: Requirement, indexes: Indexes | None) -> None:
    """Tell a package without a wheel from one that the index does not have.

    Raises:
        ReleaseError: no index has this version, as a source neither.
    """
    command = [tool("python"), "-m", "pip", "index", "versions", "-vv", "--pre", "--ignore-requires-python"]
    command += [requirement.name]
    environment = indexes.variables() if indexes else None
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode != 0 and _NO_INDEX.search(done.stderr + done.stdout):
        raise ReleaseError(f"{requirement.name}: an index did not answer:\n{last_lines(done.stderr or done.stdout)}")
    # Files that do not fit this controller are passed over, in words.
    skipped = re.findall(r"Skipping link: .*/([^-/#\s]+)-([^-/#\s]+)-[^/#\s]+\.whl", done.stdout + done.stderr)
    versions = re.search(r"Available versions: (.*)", done.stdout)
    listed = versions[1].split(", ") if versions else []
    listed += [version for name, version in skipped if normalised(name) == requirement.name]
    if not listed:
        raise ReleaseError(
            f"{requirement.name} is at none of the package indexes that are configured. A private one is named in requirements.txt "
            "(--extra-index-url), or in pip's or uv's configuration on this controller: docs/apps/private-index.md"
        )
    if requirement.version and requirement.version not in listed:
        raise ReleaseError(
            f"{requirement.name}=={requirement.version}: the package indexes that are configured do not have this version; the newest there: {', '.join(listed[:5])}"
        )


def made_of_source(
    requirement: Requirement,
    tags: Sequence[str],
    indexes: Indexes,
    build_packages: Sequence[str],
    cache: pathlib.Path,
) -> dict[str, Wheel]:
    """The wheels of a requirement that is published as source only, by tag, made once per locked file.

    Raises:
        ReleaseError: it cannot be made; with what helps.
    """

    def on_controller(out: pathlib.Path) -> None:
        (out / "lock.txt").write_text(requirement.line + "\n", encoding="utf-8")
        command = [tool("python"), "-m", "pip", *_of_pip(requirement.name, str(out), str(out / "lock.txt"))]
        run(
            command,
            f"cannot build a wheel of {requirement.text}",
            env={**indexes.variables(), "SOURCE_DATE_EPOCH": EPOCH},
        )

    def in_tree(tree: debian.Tree, work: pathlib.Path) -> None:
        (work / "lock.txt").write_text(requirement.line + "\n", encoding="utf-8")
        tree.pip(
            _of_pip(requirement.name, "out", "lock.txt"), work, indexes, f"cannot build a wheel of {requirement.text}"
        )

    key = f"sdist-{hashlib.sha256(requirement.line.encode()).hexdigest()}"
    return _made(requirement.name, key, tags, build_packages, cache, on_controller, in_tree)


def made_of_tree(
    source: Source,
    key: str,
    tags: Sequence[str],
    indexes: Indexes,
    build_packages: Sequence[str],
    cache: pathlib.Path,
    version: str,
    origin: str = "",
) -> dict[str, Wheel]:
    """The wheels of a project's files, by tag, made once per content.

    Args:
        source: what the project consists of; nothing else is there when its wheel is built.
        key: a digest of it.
        tags: of the Pythons.
        indexes: where what builds it comes from.
        build_packages: Debian packages that compiling it takes.
        cache: keeps the wheels.
        version: for projects whose version is git's: the copy that is built has no history.
        origin: what the manifest says of where it comes from.
    """
    environment = {"SOURCE_DATE_EPOCH": EPOCH, "SETUPTOOLS_SCM_PRETEND_VERSION": version}

    def on_controller(out: pathlib.Path) -> None:
        sources.export(source, out / "tree")
        # This Python: uv would take, or download, whatever the project asks for.
        command = [tool("uv"), "build", "--no-python-downloads", "--python", sys.executable]
        command += ["--wheel", "--out-dir", str(out), str(out / "tree")]
        run(command, f"cannot build a wheel of {source.at.name}", env={**indexes.variables(), **environment})

    def in_tree(tree: debian.Tree, work: pathlib.Path) -> None:
        sources.export(source, work / "tree")
        command = ["wheel", "--quiet", "--no-deps", "--wheel-dir", "out", "./tree"]
        tree.pip(command, work, indexes, f"cannot build a wheel of {source.at.name}", environment)

    return _made(source.at.name, key, tags, build_packages, cache, on_controller, in_tree, origin)


def _of_pip(name: str, out: str, lock: str) -> list[str]:
    return ["wheel", "--quiet", "--no-deps", "--require-hashes", f"--no-binary={name}", "--wheel-dir", out, "-r", lock]


def _made(
    name: str,
    key: str,
    tags: Sequence[str],
    build_packages: Sequence[str],
    cache: pathlib.Path,
    on_controller: debian.Maker,
    in_tree: debian.TreeMaker,
    origin: str = "",
) -> dict[str, Wheel]:
    """Make a wheel on the controller, which is enough for what is Python only; else one per Debian release in a clean tree of that release."""
    kept = cache / "built" / f"{key}.json"
    if (found := noted(kept, cache)) is not None:
        return dict.fromkeys(tags, found[0])
    compiled = {tag: cache / "built" / f"{key}-{tag}-{debian.named(build_packages)}.json" for tag in tags}
    kept_too = {tag: noted(path, cache) for tag, path in compiled.items()}
    if all(kept_too.values()):
        return {tag: each[0] for tag, each in kept_too.items() if each}
    reason = f"{name} compiles something"
    with tempfile.TemporaryDirectory(prefix="build-") as directory:
        try:
            on_controller(pathlib.Path(directory))
            built = next(pathlib.Path(directory).glob("*.whl"))
            if built.name.endswith("-none-any.whl"):
                wheel = keep(built, cache, origin=origin)
                note(kept, [wheel])
                return dict.fromkeys(tags, wheel)
        except ReleaseError as error:
            # A project that does not build for another reason does not in a Debian tree either, unless it is for its Python alone.
            own_python = f"cp{sys.version_info.major}{sys.version_info.minor}" in tags
            if own_python and not key.startswith("sdist-") and not _COMPILES.search(str(error)):
                raise
            reason = str(error)
    answer = {}
    for tag in tags:
        found = kept_too[tag]
        if not found:
            wheel = debian.made(tag, build_packages, cache, in_tree, reason, origin)
            found = [wheel]
            note(compiled[tag] if not wheel.pure else kept, found)
        answer[tag] = found[0]
    return answer


def advice(name: str, build_packages: Sequence[str]) -> str:
    """What helps with a requirement that could not be made of its source."""
    found = []
    if name in ALTERNATIVES:
        found.append(f"require {ALTERNATIVES[name]}, which has wheels")
    needs = BUILD_PACKAGES.get(name)
    if needs and not set(needs.split(", ")) <= set(build_packages):
        found.append(f"name what it is compiled with: build_packages: [{needs}]")
    return (
        "; or ".join(found) or "choose a version that publishes a wheel, or put one that you built into your own index"
    )


def own_file(requirement: Requirement, tags: Sequence[str], cache: pathlib.Path) -> dict[str, Wheel]:
    """The wheel that lies in the project itself, for the tags that it fits.

    Raises:
        ReleaseError: it fits none of the Pythons.
    """
    path = requirement.path
    assert path is not None  # noqa: S101  the caller has asked
    fits = {tag: _fits(path.name, tag) for tag in tags}
    if not all(fits.values()):
        unfit = " or ".join(
            f"{SYSTEMS[tag]} (glibc {'.'.join(map(str, SYSTEMS[tag].glibc))})" for tag, fit in fits.items() if not fit
        )
        raise ReleaseError(f"{path.name}: this wheel does not fit {unfit}")
    for value in requirement.hashes:
        kind, _, wanted = value.partition(":")
        if hashlib.new(kind, path.read_bytes()).hexdigest() != wanted:
            raise ReleaseError(f"{path.name}: its content is not what the lock says ({value})")
    return dict.fromkeys(tags, keep(path, cache, origin=os.path.relpath(path, requirement.base)))


def _fits(file: str, tag: str) -> bool:
    system = SYSTEMS[tag]
    python, platforms = (3, system.minor), system.platforms
    allowed = {*cpython_tags(python, [system.abi], platforms), *compatible_tags(python, system.abi, platforms)}
    return bool(allowed & parse_wheel_filename(file)[3])


def from_git(
    requirement: Requirement,
    tags: Sequence[str],
    indexes: Indexes,
    build_packages: Sequence[str],
    cache: pathlib.Path,
) -> dict[str, Wheel]:
    """The wheels of a requirement at a commit of a repository; the manifest says which.

    Raises:
        ReleaseError: the commit is not there, or its wheel cannot be built.
    """
    assert requirement.git is not None  # noqa: S101  the caller has asked
    url, ref, subdir = requirement.git
    shown = without_credentials(url)
    with tempfile.TemporaryDirectory(prefix="git-") as scratch:
        place = pathlib.Path(scratch) / "clone"
        tree, commit, described = sources.checkout(url, ref, cache, place, f"cannot get {ref} of {shown}")
        files = [path for path in place.joinpath(subdir).rglob("*") if not path.is_dir() or path.is_symlink()]
        inner = tuple(sorted(path.relative_to(tree / subdir) for path in files if ".git" not in path.parts))
        source = Source(tree / subdir, inner, commit, dirty=False, described=described, at=tree / subdir, root=tree)
        key = f"git-{hashlib.sha256(f'{shown}#{subdir}'.encode()).hexdigest()[:16]}-{commit}"
        version, origin = scm_version(source), f"git+{shown}@{commit}"
        return made_of_tree(source, key, tags, indexes, build_packages, cache, version, origin)


def scm_version(source: Source) -> str:
    """For projects whose version is git's: the copy that is built has no history."""
    tag = (source.described or "").removeprefix("v")
    return tag if re.fullmatch(r"\d+(\.\d+)*", tag) else f"0+g{(source.commit or 'unknown')[:8]}"


def by_tag(made: Mapping[str, Wheel], needed: Requirement, tags: Sequence[str]) -> dict[str, Wheel]:
    """Only for the Pythons that a requirement's marker names."""
    return {tag: made[tag] for tag in tags if tag in made and requirements.applies(needed, tag)}


def names_in(wheel: pathlib.Path) -> frozenset[str]:
    """The files of a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return frozenset(archive.namelist())


def content_digest(wheel: pathlib.Path) -> str:
    """SHA-256 over the names and contents in a wheel: what it installs, whenever and by whichever version of a build backend it was zipped."""
    digest = hashlib.sha256()
    with zipfile.ZipFile(wheel) as archive:
        for name in sorted(archive.namelist()):
            if not name.endswith((".dist-info/RECORD", ".dist-info/WHEEL")):
                digest.update(f"{name}\0{hashlib.sha256(archive.read(name)).hexdigest()}\n".encode())
    return digest.hexdigest()
