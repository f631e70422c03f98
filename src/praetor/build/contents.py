"""Refuses what an entry names and its artifact has not, before a host is contacted."""

from __future__ import annotations

import pathlib
import re
import sys
from collections.abc import Sequence

from praetor.documents import Entry
from praetor.host.layout import ReleaseError

from . import wheels
from .cache import Wheel, place_of
from .sources import Source

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
    names = {str(path) for path in tree.files} if tree else set()
    for wheel in found:
        names |= _installed(place_of(wheel, cache))
    problems = [
        f"static: {path}: {place} is no file and no directory of the project or of an installed package"
        for path, place in app["static"].items()
        if not any(f"{name}/".startswith(f"{place.strip('/')}/") for name in names)
    ]
    if problems and (own or not tree):
        problems[-1] += "; a project that is a package is named as it is imported: shop/static"
    problems += _missing_module(app, names, tree, own)
    if problems:
        raise ReleaseError("\n".join(problems))


def _missing_module(app: Entry, names: set[str], tree: Source | None, own: Wheel | None) -> list[str]:
    """What is wrong with the module of `wsgi`, as far as files show it: a package of somebody else may make modules as it likes."""
    module = str(app["wsgi"] or "").partition(":")[0]
    first, path = module.partition(".")[0], module.replace(".", "/")
    if not module or _has(names, path) or first in sys.stdlib_module_names:
        return []
    if _has(names, first) and not (tree and _has({str(each) for each in tree.files}, first)):
        return []
    if not own:
        where = "neither the project nor what it requires" if tree else "nothing that is installed"
        return [f"wsgi: found {app['wsgi']}, expected a module that is there: {where} has {module}"]
    said = f"wsgi: found {app['wsgi']}, and the wheel that the project's build backend makes has no module {module}"
    lies = next((name for name in (first, f"{first}.py") if tree and (tree.at / name).exists()), None)
    more = f", or ship {lies} next to the wheel: source: {{include: [{lies}]}}" if lies else ""
    return [f"{said}. Name the app where the package has it{more}"]


def _has(names: set[str], path: str) -> bool:
    return any(name == path or name.startswith((f"{path}/", f"{path}.")) for name in names)


def _installed(wheel: pathlib.Path) -> set[str]:
    """The files of a wheel, as they are imported."""
    return {_DATA.sub("", name) for name in wheels.names_in(wheel)}


def _as_imported(path: pathlib.Path) -> pathlib.Path:
    return pathlib.Path(*path.parts[1:]) if path.parts[0] in {"src", "lib"} else path
