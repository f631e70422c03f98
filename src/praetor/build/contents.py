"""Refuses what an entry names and its artifact has not, before a host is contacted."""

from __future__ import annotations

import pathlib
import re
import sys
from collections.abc import Sequence

from packaging.requirements import Requirement as Parsed

from praetor.documents import Entry
from praetor.host.layout import ReleaseError

from . import wheels
from .cache import Wheel, normalised, place_of
from .sources import Source

_NO_APPS = {"setup", "conftest", "tests", "test"}  # modules that lie in many projects
_DATA = re.compile(r"^[^/]+\.data/(?:purelib|platlib)/")  # in a wheel; installed like the rest


def not_in(wheel: Wheel, source: Source, cache: pathlib.Path) -> list[pathlib.Path]:
    """The files of a project that are not in the wheel that was built of it."""
    inside = _installed(place_of(wheel, cache))
    return [path for path in source.files if str(_as_imported(path)) not in inside]


def refuse_missing(
    app: Entry, found: Sequence[Wheel], tree: Source | None, own: Wheel | None, cache: pathlib.Path
) -> None:
    """Refuse places of `static`, and a module of `wsgi`, that are nowhere in an artifact.

    Args:
        app: the entry.
        found: the artifact's wheels.
        tree: the project's files, of those of a package the ones that are shipped as they are; None for a package of an index.
        own: the wheel that was built of the project, if it is a package.
        cache: has the wheels.

    Raises:
        ReleaseError: all of them.
    """
    files = {str(path) for path in tree.files} if tree else set()
    mine = own or next((each for each in found if not tree and each.name == _package(app)), None)
    inside = _installed(place_of(mine, cache)) if mine else files
    names = files.union(inside, *(_installed(place_of(wheel, cache)) for wheel in found))
    problems = [
        f"static: {path}: {place} is no file and no directory of the project or of an installed package"
        for path, place in app["static"].items()
        if not any(f"{name}/".startswith(f"{place.strip('/')}/") for name in names)
    ]
    if problems and mine:
        problems[-1] += "; a project that is a package is named as it is imported: shop/static"
    if app["wsgi"] and _is_absent(app["wsgi"], names, files):
        problems.append(_absent_module(app["wsgi"], inside, tree, own))
    if problems:
        raise ReleaseError("\n".join(problems))


def _package(app: Entry) -> str:
    return normalised(Parsed(app["source"]["package"]).name)


def _is_absent(wsgi: str, names: set[str], files: set[str]) -> bool:
    """Whether a module is nowhere, as far as files show it: a package of somebody else may make modules as it likes."""
    module = wsgi.partition(":")[0]
    first = module.partition(".")[0]
    if _has(names, module.replace(".", "/")) or first in sys.stdlib_module_names:
        return False
    return _has(files, first) or not _has(names, first)


def _absent_module(wsgi: str, inside: set[str], tree: Source | None, own: Wheel | None) -> str:
    """What is wrong with the module of `wsgi`, `inside` being the files of the project or of its package."""
    module = wsgi.partition(":")[0]
    first = module.partition(".")[0]
    packages = {name.partition("/")[0] for name in inside if name.count("/") == 1 and name.endswith("/__init__.py")}
    modules = {name.removesuffix(".py") for name in inside if "/" not in name and name.endswith(".py")}
    there = sorted((packages | modules) - _NO_APPS)
    found = f"found {wsgi}, expected a module that is there"
    has = f"; there are {', '.join(there[:8])}{' and others' if len(there) > 8 else ''}" if there else ""
    if not own:
        return (
            f"wsgi: {found}: neither {'the project' if tree else 'the package'} nor what it requires has {module}{has}"
        )
    lies = next((name for name in (first, f"{first}.py") if tree and (tree.at / name).exists()), None)
    more = f". Or ship {lies} next to the wheel: source: {{include: [{lies}]}}" if lies else ""
    return f"wsgi: {found}: the wheel that the project's build backend makes has no {module}{has}{more}"


def _has(names: set[str], path: str) -> bool:
    return any(name == path or name.startswith((f"{path}/", f"{path}.")) for name in names)


def _installed(wheel: pathlib.Path) -> set[str]:
    """The files of a wheel, as they are imported."""
    return {_DATA.sub("", name) for name in wheels.names_in(wheel)}


def _as_imported(path: pathlib.Path) -> pathlib.Path:
    return pathlib.Path(*path.parts[1:]) if path.parts[0] in {"src", "lib"} else path
