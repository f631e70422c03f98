"""Checks the inventory's `apps` on the controller, all mistakes at once, in words for people.

Pure Python: the action plugin `check_inventory` hands over plain data and gets back apps with every default filled in, or
problems. Nothing here prints or knows Ansible.
"""

import datetime as dt
import difflib
import json
import re
import types
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias, cast, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from praetor.documents import Entry, Joined

from .model import App, Must, variable_problem

if TYPE_CHECKING:
    import jsonschema

Where: TypeAlias = tuple[str | int, ...]

_OTHER_NAMES = frozenset({"applications", "flask_apps", "app_list", "api", "apis"})
# What else may lock it stands next to one of these, or is refused by the build with the command that exports it.
_SAYS_WHAT_IT_NEEDS = ("pyproject.toml", "requirements.txt", "pylock.toml", "setup.py", "setup.cfg", "Pipfile.lock")
# Headers that make an answer what it is, and those that the site sets.
_OWN_HEADERS = frozenset(
    {
        "connection",
        "content-encoding",
        "content-length",
        "content-type",
        "date",
        "etag",
        "keep-alive",
        "last-modified",
        "location",
        "retry-after",
        "server",
        "strict-transport-security",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "vary",
        "x-request-id",
    }
)
# What an entry says about requests, of which an app without `wsgi` gets none.
_ABOUT_REQUESTS = (
    *(("redirect_names",), ("static",), ("health",), ("workers",), ("threads",), ("preload",), ("http",)),
    *(("limits", "request_s"), ("limits", "body_mb"), ("limits", "memory_mb")),
    *(("release", "max_5xx_ratio"), ("release", "max_p95_factor"), ("release", "min_requests"), ("release", "drain_s")),
)
# Hashes that NGINX can check on both Debians without keeping other clients waiting: bcrypt of a higher cost takes a processor for a quarter of a second.
_USER = re.compile(r"[^:\s]+:(\$apr1\$|\$5\$|\$6\$|\$2[aby]\$(0[4-9]|10)\$)[^:\s]{20,}(:.*)?")
_USERS = "a line NAME:HASH for each user, a hash as `openssl passwd -6` prints it ($6$..., $5$, $apr1$, or bcrypt of cost 10 at most)"
_JSON_TYPES = {
    "string": "a string",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "array": "a list",
    "object": "a mapping",
    "null": "nothing",
}


@dataclass(frozen=True)
class Problem:
    """One mistake: where it is inside `apps`, what was found there and what is expected."""

    where: Where
    found: str
    expected: str

    def __str__(self) -> str:
        """Say it in one line, without the file."""
        return f"{path_text(self.where)}: found {self.found}, expected {self.expected}"


@dataclass(frozen=True)
class Checked:
    """The result: either problems, or `apps` (defaults filled in, without secrets) and `secrets` by app name."""

    apps: list[Entry] = field(default_factory=list)
    secrets: dict[str, dict[str, str]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


def path_text(where: Where) -> str:
    """Write a place as people do: apps[0].limits.request_s."""
    return "apps" + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in where)


def check_apps(apps: object, root: Path, vaulted: frozenset[Where] = frozenset()) -> Checked:
    """Check the value of `apps` whole.

    Args:
        apps: plain data, as YAML gives it.
        root: the project's root, against which a path source is taken.
        vaulted: places whose value came out of a vault; such a value is never printed.

    """
    if not isinstance(apps, list):
        found = describe(apps, hide=bool(vaulted))
        return Checked(problems=[Problem((), found, 'a list of apps, each beginning with "- name:"')])
    if not apps:
        return Checked(problems=[Problem((), "an empty list", "at least one app")])
    models: list[App] = []
    problems: list[Problem] = []
    for index, entry in enumerate(apps):
        try:
            models.append(App.model_validate(entry))
        except ValidationError as error:
            details = error.errors(include_url=False)
            # Keys are checked by the rules below, which know what a key is for.
            problems += [_problem(one, index, entry, vaulted) for one in details if one["loc"][-1:] != ("[key]",)]
        if isinstance(entry, dict):
            problems += _rules_of_one(entry, (index,), vaulted)
            problems += _rules_of_files(entry, (index,), root, vaulted)
    problems += _rules_of_all(apps)
    if problems:
        return Checked(problems=sorted(dict.fromkeys(problems), key=lambda problem: problem.where[:1]))
    secrets = {model.name: dict(model.secrets) for model in models}
    filled = {model.name: _filled(model, root) for model in models}
    for app in filled.values():
        # What the site has to know of the apps that it leads to; their own `http.paths` lead nowhere.
        named = [filled[limits["app"]] for limits in app["http"]["paths"] if limits["app"]]
        app["joined"] = [_joined(each) for each in named]
        app["http"]["paths"] = [limits for limits in app["http"]["paths"] if not limits["app"]]
    return Checked(apps=list(filled.values()), secrets=secrets)


def differences(definitions: Mapping[str, object]) -> list[str]:
    """Say where the hosts of one play do not agree: a release goes to all of them, or to none.

    Args:
        definitions: plain value of `apps` by host.

    """
    named = {host: _by_name(apps) for host, apps in definitions.items()}
    first = next(iter(named), "")
    lines: dict[str, str] = {}
    for host, apps in named.items():
        known = named[first]
        if apps.keys() != known.keys():
            lines.setdefault(
                "",
                f"apps: found {_listed(known)} on {first} and {_listed(apps)} on {host}, expected the same apps on all "
                "hosts of the play: give each group of hosts that has different apps a run with --limit",
            )
        for name in apps.keys() & known.keys():
            keys = sorted(
                str(key)
                for key in apps[name].keys() | known[name].keys()
                if apps[name].get(key) != known[name].get(key)
            )
            if keys:
                lines.setdefault(
                    name,
                    f"app {name}: found different definitions on {first} and {host} ({', '.join(keys)}), "
                    "expected the same on all hosts of the play: a release is one for all of them",
                )
    return list(lines.values())


def _by_name(apps: object) -> dict[str, dict[str, Any]]:
    entries = [entry for entry in (apps if isinstance(apps, list) else []) if isinstance(entry, dict)]
    return {entry["name"]: entry for entry in entries if isinstance(entry.get("name"), str)}


def _listed(apps: Mapping[str, object]) -> str:
    return ", ".join(sorted(apps)) or "none"


def missing(names: Iterable[str]) -> tuple[str, str | None]:
    """Say that `apps` is not defined at all.

    Returns the message and the variable among `names` that is probably meant.

    """
    candidates = {name.lower(): name for name in names if not name.startswith("ansible_") and name != "groups"}
    near = [*difflib.get_close_matches("apps", candidates, n=1), *_OTHER_NAMES.intersection(candidates)]
    if near:
        name = candidates[near[0]]
        return f"{name}: found an unknown variable, expected the list of apps under the name apps; rename it", name
    return "apps: found nothing, expected a list of apps in group_vars/all/apps.yml of the inventory", None


def describe(value: object, *, hide: bool = False) -> str:
    """Name a value that was found; `hide` tells its type only."""
    kind = "a value"
    match value:
        case None:
            return "nothing"
        case bool():
            kind, text = "true or false", "true" if value else "false"
        case int() | float():
            kind, text = "a number", str(value)
        case str():
            shown = re.sub(r"(://)[^/@]*@", r"\1***@", value)
            kind, text = "a string", json.dumps(shown if len(shown) <= 60 else shown[:57] + "...", ensure_ascii=False)
        case list():
            return "a list" if value else "an empty list"
        case dict():
            return "a mapping" if value else "an empty mapping"
        case dt.date():
            kind, text = "a date", str(value)
        case _:
            text = type(value).__name__
    return f"{kind} that is not shown" if hide else text


def suggestion(word: object, known: Iterable[str]) -> str:
    """Return '; did you mean X?' or nothing."""
    near = difflib.get_close_matches(str(word).lower(), list(known), n=1, cutoff=0.65)
    return f"; did you mean {near[0]}?" if near else ""


# --- pydantic's errors in our words ---------------------------------------------------------------------------------


def _problem(details: ErrorDetails, index: int, entry: object, vaulted: frozenset[Where]) -> Problem:
    value = details["input"]
    if details["type"] == "extra_forbidden":
        return Problem((index, *details["loc"]), "an unknown key", _known_keys(App, details["loc"]))
    steps, annotation = _at(App, details["loc"])
    where: Where = (index, *steps)
    expected = expected_of(annotation)
    if details["type"] == "missing":
        name = entry.get("name") if isinstance(entry, dict) else None
        return Problem(where, "nothing" + (f" (app {name})" if isinstance(name, str) else ""), expected)
    hide = _is_hidden(where, vaulted)
    found = describe(value, hide=hide)
    if details["type"] == "value_error":
        reason = str(details["ctx"]["error"])
        quoted = _type_note(value, expected, hide=hide) if isinstance(value, str) else ""
        return Problem(where, found + (f" ({reason})" if reason else quoted), expected)
    return Problem(where, found + _type_note(value, expected, hide=hide), expected)


def _type_note(value: object, expected: str, *, hide: bool) -> str:
    """Explain the usual surprises of YAML's types."""
    if hide:
        return ""
    if isinstance(value, str) and "number" in expected:
        return " (a string: leave the quotes out)" if value.replace(".", "", 1).isdigit() else " (a string)"
    if isinstance(value, bool):
        note = "YAML reads yes, no, on and off as true or false"
        return f" ({note})" if "number" in expected else f" ({note}: quote it)"
    if isinstance(value, int | float | dt.date) and "number" not in expected:
        return " (YAML reads this as a number or a date: quote it)"
    if isinstance(value, float):
        return " (not whole)"
    return ""


def _is_hidden(where: Where, vaulted: frozenset[Where]) -> bool:
    """Tell whether a value must not be printed: it is vaulted, or in a place where secrets are or are easily put."""
    return where[1:2] in {("secrets",), ("env",)} or any(place[: len(where)] == where for place in vaulted)


def _steps(annotation: Any) -> Iterator[Any]:
    """Yield a type and what it consists of, the way down to what a value is made of."""
    yield annotation
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from _steps(get_args(annotation)[0])
    elif origin in {typing.Union, types.UnionType}:
        for part in get_args(annotation):
            if part is not types.NoneType:
                yield from _steps(part)


def _inside(annotation: Any, step: str | int) -> Any:
    """Return the type of a member of a model, list or mapping; None when there is none."""
    for part in _steps(annotation):
        if isinstance(part, type) and issubclass(part, BaseModel):
            info = part.model_fields.get(str(step))
            return None if info is None else Annotated[(info.annotation, *info.metadata, "")]
        if get_origin(part) in {list, dict}:
            return get_args(part)[-1]
    return None


def _at(model: type[BaseModel], loc: Sequence[str | int]) -> tuple[Where, Any]:
    """Return the type at a place, and the place without the steps that are pydantic's own, such as a union's branch."""
    annotation: Any = model
    for count, step in enumerate(loc):
        inner = _inside(annotation, step)
        if inner is None:
            return tuple(loc[:count]), annotation
        annotation = inner
    return tuple(loc), annotation


def expected_of(annotation: Any) -> str:
    """Say in words what a type of the model expects."""
    for part in _steps(annotation):
        for note in getattr(part, "__metadata__", ()):
            if isinstance(note, Must):
                return note.be
        if isinstance(part, type) and issubclass(part, BaseModel):
            return f"a mapping with the keys {', '.join(part.model_fields)}"
        if get_origin(part) is list:
            return "a list, each item " + expected_of(get_args(part)[0])
    msg = f"{annotation} says nothing about what it expects"
    raise TypeError(msg)


def expectation(model: type[BaseModel], loc: Sequence[str | int]) -> str:
    """Say in words what is expected at a place inside a model."""
    return expected_of(_at(model, loc)[1])


def _known_keys(model: type[BaseModel], loc: Sequence[str | int]) -> str:
    for part in _steps(_at(model, loc[:-1])[1]):
        if isinstance(part, type) and issubclass(part, BaseModel):
            return f"one of {', '.join(part.model_fields)}{suggestion(loc[-1], part.model_fields)}"
    return "no such key"


def _filled(app: App, root: Path) -> Entry:
    data = app.model_dump(mode="python", exclude={"secrets"})
    data["source"] = {key: value for key, value in data["source"].items() if value is not None}
    if app.http.directives:
        # What the file says is part of the release, not where it lies.
        data["http"]["directives"] = (root / app.http.directives).read_text(encoding="utf-8")
    if app.http.access and app.http.access.authority:
        data["http"]["access"]["authority"] = (root / app.http.access.authority).read_text(encoding="ascii")
    # An entry says where things are in the app, a site where they are for clients.
    data["static"] = {app.mount + path: place for path, place in app.static.items()}
    for limits in data["http"]["paths"]:
        limits["path"] = limits["path"] if limits["app"] else app.mount + limits["path"]
    if app.mount:
        data["health"]["path"] = app.mount + (app.health.path or "/")
        data["health"]["status"] = app.health.status or (200 if app.health.path else None)
    return cast("Entry", data)


def _joined(app: Entry) -> Joined:
    http = app["http"]
    return {
        "name": app["name"],
        "mount": app["mount"],
        "static": app["static"],
        "limits": app["limits"],
        "http": {
            "compress": http["compress"],
            "stream_s": http["stream_s"],
            "paths": [limits for limits in http["paths"] if not limits["app"]],
        },
    }


# --- rules across fields --------------------------------------------------------------------------------------------


def _mapping(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _rules_of_one(entry: dict[str, Any], here: Where, vaulted: frozenset[Where]) -> Iterator[Problem]:
    """Yield what is wrong between the fields of one app."""
    yield from _rules_of_source(entry, here)
    yield from _rules_of_wsgi(entry, here)
    yield from _rules_of_variables(entry, here)
    yield from _rules_of_data_dir(entry, here)
    yield from _rules_of_http(entry, here)
    yield from _rules_of_processes(entry, here)
    yield from _rules_of_redis(entry, here)
    limit = _mapping(entry.get("limits")).get("request_s", 30)
    drain = _mapping(entry.get("release")).get("drain_s", 60)
    if isinstance(limit, int) and isinstance(drain, int) and drain < limit and entry.get("wsgi") is not None:
        given_drain = "drain_s" in _mapping(entry.get("release"))
        yield Problem(
            (*here, "release", "drain_s") if given_drain else (*here, "limits", "request_s"),
            str(drain) if given_drain else f"{limit} with release.drain_s {drain} (the default)",
            f"release.drain_s of at least limits.request_s ({limit}), or a release would end running requests",
        )
    for place in sorted(vaulted, key=str):
        if place[: len(here)] == here and place[len(here) : len(here) + 1] != ("secrets",):
            expected = "vaulted values under secrets only: this place is shown in plans and logs"
            yield Problem(place, "a vaulted value", expected)
    yield from _no_json((*here, "config"), entry.get("config"))


def _rules_of_source(entry: dict[str, Any], here: Where) -> Iterator[Problem]:
    """Yield keys of a source that do not go together."""
    source = _mapping(entry.get("source"))
    given = [key for key in ("path", "git", "package") if source.get(key) is not None]
    if isinstance(entry.get("source"), dict) and len(given) != 1:
        found = f"{' and '.join(given)} together" if given else "none of them"
        yield Problem((*here, "source"), found, "exactly one of path, git (with ref) or package")
    if "git" in given and source.get("ref") is None:
        yield Problem((*here, "source", "ref"), "nothing", "the tag, branch or commit of git to release")
    for key in ("ref", "subdir"):
        if source.get(key) is not None and "git" not in given and given:
            yield Problem((*here, "source", key), f"a {key} next to {given[0]}", f"no {key}: it belongs to git")
    if given == ["package"]:
        for key in ("requirements", "include", "extras"):
            if source.get(key):
                instead = "NAME[EXTRA]==VERSION" if key == "extras" else "no such key: it is about a project's files"
                yield Problem((*here, "source", key), f"{key} with a package", instead)
        if entry.get("build"):
            yield Problem((*here, "build"), "commands with a package", "no build: a package of an index is built")


def _rules_of_wsgi(entry: dict[str, Any], here: Where) -> Iterator[Problem]:
    """Yield what is missing to an app that serves, and what is too much in one of processes and jobs alone."""
    name = entry.get("name")
    nothing = "nothing" + (f" (app {name})" if isinstance(name, str) else "")
    if entry.get("wsgi") is not None:
        if "server_names" not in entry:
            yield Problem((*here, "server_names"), nothing, expectation(App, ["server_names"]))
        return
    if "server_names" in entry or not (entry.get("processes") or entry.get("jobs")):
        expected = f"{expectation(App, ['wsgi'])}; or processes or jobs, and no server_names: an app without a site"
        yield Problem((*here, "wsgi"), nothing, expected)
        return
    for place in _ABOUT_REQUESTS:
        if place[-1] in (_mapping(entry.get(place[0])) if len(place) > 1 else entry):
            expected = "no such key: it is about requests, and an app without wsgi gets none"
            yield Problem((*here, *place), f"{place[-1]} without wsgi", expected)


def _rules_of_http(entry: dict[str, Any], here: Where) -> Iterator[Problem]:
    """Yield what does not fit between the names, the paths and the headers of one app."""
    names = entry.get("server_names")
    if isinstance(names, list) and names and str(names[0]).startswith("*."):
        expected = "a plain name first: it is what the gate asks under, and where redirect_names lead"
        yield Problem((*here, "server_names", 0), describe(names[0]), expected)
    http = _mapping(entry.get("http"))
    drain = _mapping(entry.get("release")).get("drain_s", 60)
    seen: set[str] = set()
    paths = http.get("paths")
    for index, limits in enumerate(paths if isinstance(paths, list) else []):
        place, path = (*here, "http", "paths", index), _mapping(limits).get("path")
        if isinstance(path, str) and path in seen:
            yield Problem((*place, "path"), f"{describe(path)} again", "each path once")
        if path == "/":
            yield Problem((*place, "path"), describe(path), "a path below it: what holds for all of them is in limits")
        seen.add(str(path))
        given = {"request_s", "body_mb", "stream"} & limits.keys() if isinstance(limits, dict) else set()
        if isinstance(limits, dict) and not given and "app" not in limits:
            yield Problem(place, "a path without limits", "at least one of request_s, body_mb, stream, or app")
        if given and _mapping(limits).get("app") is not None:
            yield Problem(
                place,
                f"app and {' and '.join(sorted(given))}",
                "one of them: the limits are those in the other app's entry",
            )
        limit = _mapping(limits).get("request_s")
        if isinstance(limit, int) and isinstance(drain, int) and drain < limit:
            expected = f"at most release.drain_s ({drain}), or a release would end running requests"
            yield Problem((*place, "request_s"), str(limit), expected)
    yield from _rules_of_static(entry, here, seen)
    yield from _rules_of_access(entry, here)
    for name in _mapping(http.get("headers")):
        if str(name).lower() in _OWN_HEADERS:
            yield Problem((*here, "http", "headers", name), f"the header {name}", "another: NGINX sets this one itself")


def _rules_of_access(entry: dict[str, Any], here: Where) -> Iterator[Problem]:
    """Yield what does not fit in who may reach an app; no line of a password is shown."""
    access, place = _mapping(entry.get("http")).get("access"), (*here, "http", "access")
    if not isinstance(access, dict):
        return
    if not access.get("users") and not access.get("authority"):
        yield Problem(place, "neither users nor authority", "at least one of them: without, nobody is kept out")
    name, secrets = access.get("users"), _mapping(entry.get("secrets"))
    if not isinstance(name, str):
        return
    if name not in secrets:
        yield Problem((*place, "users"), describe(name), f"the name of one of secrets, which holds {_USERS}")
    elif isinstance(secrets[name], str):
        lines = [line for line in secrets[name].splitlines() if line.strip() and not line.startswith("#")]
        wrong = next((number for number, line in enumerate(lines, 1) if not _USER.fullmatch(line.strip())), 0)
        if wrong or not lines:
            found = f"user {wrong} of it, who is not NAME:HASH" if wrong else "no user"
            yield Problem((*here, "secrets", name), found, _USERS)


def _rules_of_static(entry: dict[str, Any], here: Where, limited: set[str]) -> Iterator[Problem]:
    """Yield static places that something else already has: a path with limits, or a place that the app writes to."""
    written = (
        [str(place).strip("/") for place in entry.get("data") or []] if isinstance(entry.get("data"), list) else []
    )
    seen: set[str] = set()
    for path, named in _mapping(entry.get("static")).items():
        plain, place = str(path).rstrip("/"), str(named).strip("/")
        if plain in {each.rstrip("/") for each in limited}:
            yield Problem((*here, "static", path), f"{path}, which is in http.paths too", "another path in one of them")
        if plain in seen:
            yield Problem((*here, "static", path), f"{path} again", "each path once")
        seen.add(plain)
        if any(f"{place}/".startswith(f"{each}/") for each in written):
            found = f"{describe(named)}, which lies in the app's data"
            expected = (
                "files of the release: what an app has written is served by the app, because nobody else may read it"
            )
            yield Problem((*here, "static", path), found, expected)


def _rules_of_processes(entry: dict[str, Any], here: Where) -> Iterator[Problem]:
    """Yield what does not go together in an app's processes and jobs."""
    # Single commands have a unit of this name.
    seen = {"command"}
    jobs = entry.get("jobs")
    for index, given in enumerate(jobs if isinstance(jobs, list) else []):
        name = _mapping(given).get("name")
        if isinstance(name, str) and name in seen:
            yield Problem((*here, "jobs", index, "name"), f"{describe(name)}, which is taken", "another name")
        seen.add(str(name))
    listed = entry.get("processes")
    for index, given in enumerate(listed if isinstance(listed, list) else []):
        place, process = (*here, "processes", index), _mapping(given)
        name = process.get("name")
        if isinstance(name, str) and name in seen:
            yield Problem((*place, "name"), f"{describe(name)}, which is taken", "another name")
        seen.add(str(name))
        counted = [key for key in ("count", "per_host", "one") if process.get(key)]
        if len(counted) > 1:
            yield Problem(place, " and ".join(counted), "at most one of count, per_host and one")
        drain = process.get("drain_s")
        if process.get("one") is True and isinstance(drain, int) and drain > 600:
            expected = "at most 600 with one: a release waits until the one before has ended"
            yield Problem((*place, "drain_s"), str(drain), expected)


def _rules_of_redis(entry: dict[str, Any], here: Where) -> Iterator[Problem]:
    """Yield which part of `redis` would have no effect."""
    if not isinstance(entry.get("redis"), dict):
        return
    asked, where = _mapping(entry["redis"]), (*here, "redis")
    if not any(asked.get(keeps) for keeps in ("queue", "cache")):
        yield Problem(where, "neither queue nor cache", "queue: true, cache: true or both")
        return
    for keeps in ("queue", "cache"):
        if f"{keeps}_mb" in asked and not asked.get(keeps):
            yield Problem(
                (*where, f"{keeps}_mb"), f"{describe(asked[f'{keeps}_mb'])} without {keeps}", f"{keeps}: true"
            )


def _rules_of_variables(entry: dict[str, Any], here: Where) -> Iterator[Problem]:
    """Yield names in secrets and env that cannot be variables, or are taken."""
    for part in ("secrets", "env"):
        for name in _mapping(entry.get(part)):
            place = (*here, part, name)
            reason = variable_problem(name) if isinstance(name, str) else ""
            if reason is not None:
                expected = "another name" if reason else "a variable name of A-Z, a-z, 0-9 and _"
                yield Problem(place, f"the name {name}" + (f" ({reason})" if reason else ""), expected)
            elif part == "env" and name in _mapping(entry.get("secrets")):
                yield Problem(place, f"{name} in secrets too", "each variable in one of secrets and env")


def _rules_of_data_dir(value: object, where: Where) -> Iterator[Problem]:
    """Yield where another form of the data directory's variable stands than the one that is replaced."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if key not in {"secrets", "build"}:
                yield from _rules_of_data_dir(inner, (*where, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _rules_of_data_dir(inner, (*where, index))
    elif isinstance(value, str) and _strange_variable(value, where):
        known = (
            "${APP_DATA_DIR} or ${APP_PROCESS}, which are"
            if "processes" in where
            else "${APP_DATA_DIR}, the one variable that is"
        )
        yield Problem(where, describe(value), f"{known} replaced here")


def _strange_variable(value: str, where: Where) -> bool:
    """Whether a text has a variable of the release that nobody replaces there."""
    known = {"APP_DATA_DIR", *(["APP_PROCESS"] if "processes" in where else [])}
    named = re.findall(r"\$\{(APP_\w*)\}", value)
    return bool(re.search(r"\$APP_DATA_DIR\b", value)) or not known.issuperset(named)


def _no_json(where: Where, value: object) -> Iterator[Problem]:
    """Yield what the configuration file cannot carry unchanged: dates, and keys that are no strings."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if isinstance(key, str):
                yield from _no_json((*where, key), inner)
            else:
                yield Problem(where, f"the key {describe(key)} (not a string)", "keys that are strings: quote it")
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _no_json((*where, index), inner)
    elif not isinstance(value, str | int | float | None):
        found = f"{describe(value)} (YAML reads this as a date)"
        yield Problem(where, found, "a string, number, true or false: quote it")


def _rules_of_joined(apps: list[Any]) -> Iterator[Problem]:
    """Yield paths that lead to another app which is not there, or whom others may not reach."""
    by_name = {str(entry.get("name")): entry for entry in map(_mapping, apps)}
    for index, entry in enumerate(map(_mapping, apps)):
        paths = _mapping(entry.get("http")).get("paths")
        for position, limits in enumerate(paths if isinstance(paths, list) else []):
            name, path = _mapping(limits).get("app"), _mapping(limits).get("path")
            if not isinstance(name, str):
                continue
            place: Where = (index, "http", "paths", position, "app")
            other = by_name.get(name, {})
            if not other or name == entry.get("name") or other.get("wsgi") is None:
                known = sorted(
                    each for each in by_name if each != entry.get("name") and by_name[each].get("wsgi") is not None
                )
                yield Problem(place, describe(name), f"another app with a site: {', '.join(known) or 'there is none'}")
            elif str(path).rstrip("/") != other.get("mount"):
                found = f"{describe(name)}, whose mount is {describe(other.get('mount'))}"
                yield Problem(place, found, f"an app whose mount is {str(path).rstrip('/') or 'this path'}")
            elif _mapping(other.get("http")).get("access") and not _mapping(entry.get("http")).get("access"):
                found = f"{describe(name)}, which has http.access"
                yield Problem(place, found, "http.access here too, or none there: everybody could reach it here")
            if str(path).startswith(f"{entry.get('mount')}/") and entry.get("mount"):
                yield Problem((*place[:-1], "path"), f"{path}, which is below this app's mount", "one that is not")


def _rules_of_all(apps: list[Any]) -> Iterator[Problem]:
    """Yield names that two apps share."""
    yield from _rules_of_joined(apps)
    names: dict[str, int] = {}
    hosts: dict[str, Where] = {}
    for index, entry in enumerate(apps):
        name = _mapping(entry).get("name")
        if isinstance(name, str) and names.setdefault(name, index) != index:
            found = f"{describe(name)}, the name of apps[{names[name]}] too"
            yield Problem((index, "name"), found, "another name for each app")
        for key in ("server_names", "redirect_names"):
            listed = _mapping(entry).get(key)
            for position, host in enumerate(listed if isinstance(listed, list) else []):
                place: Where = (index, key, position)
                if isinstance(host, str) and hosts.setdefault(host.lower(), place) != place:
                    yield Problem(
                        place,
                        f"{describe(host)}, which is {path_text(hosts[host.lower()])} too",
                        "each server name once: NGINX picks the app by it",
                    )


# --- what a path source ships ---------------------------------------------------------------------------------------


def _rules_of_files(entry: dict[str, Any], here: Where, root: Path, vaulted: frozenset[Where]) -> Iterator[Problem]:
    """Yield what does not fit the files that the entry names."""
    directives = _mapping(entry.get("http")).get("directives")
    if isinstance(directives, str) and not (root / directives).is_file():
        found = f"{describe(directives)}, which is no file in {root}"
        yield Problem((*here, "http", "directives"), found, "a file with NGINX directives")
    authority = _mapping(_mapping(entry.get("http")).get("access")).get("authority")
    if isinstance(authority, str) and (reason := authority_problem(root / authority)):
        yield Problem(
            (*here, "http", "access", "authority"),
            f"{describe(authority)}, {reason}",
            "a file with certificates in PEM",
        )
    given = _mapping(entry.get("source")).get("path")
    if not isinstance(given, str):
        return
    place = (*here, "source", "path")
    project = root / given
    if not given or not project.is_dir():
        yield Problem(place, f"{describe(given)}, which is no directory in {root}", "the directory of a Python project")
        return
    named = _mapping(entry.get("source")).get("requirements")
    if isinstance(named, str) and not (project / named).is_file():
        yield Problem(
            (*here, "source", "requirements"), f"{describe(named)}, which is no file in {given}", "a file of it"
        )
        return
    if named is None and not any((project / name).is_file() for name in _SAYS_WHAT_IT_NEEDS):
        found = f"{describe(given)} without {' or '.join(_SAYS_WHAT_IT_NEEDS[:2])}"
        yield Problem(place, found, "the directory of a Python project (a file of another name: source.requirements)")
        return
    package = str(entry.get("wsgi") or "").partition(":")[0].partition(".")[0]
    yield from _profile_problem(entry, here, project, package)
    config = entry.get("config")
    # Nothing is required here, so an entry that sets nothing cannot be wrong.
    if isinstance(config, dict) and config and (schema := _shipped(project, package, "config.schema.json")):
        yield from schema_problems(schema, config, (*here, "config"), vaulted)


def authority_problem(path: Path) -> str:
    """What is wrong with a file of authorities; empty when nothing is. A key in it would go to every host."""
    from praetor.pki.pem import PemError, Source, is_authority, read_chain  # noqa: PLC0415  every run would pay for it

    try:
        text = path.read_text(encoding="ascii")
        if "PRIVATE KEY" in text:
            return "which holds a private key"
        if not all(is_authority(certificate) for certificate in read_chain(Source(str(path), text))):
            return "which holds a certificate of no authority"
    except (OSError, UnicodeError, PemError):
        return "which is no file with certificates"
    return ""


def _shipped(project: Path, package: str, name: str) -> Path | None:
    """Return a file or folder of the app's package, else the only one under src/, else the one of the project."""
    found = sorted(project.glob(f"src/*/{name}"))
    own = project / "src" / package / name
    if own in found:
        return own
    if len(found) == 1:
        return found[0]
    return project / name if (project / name).exists() else None


def _profile_problem(entry: dict[str, Any], here: Where, project: Path, package: str) -> Iterator[Problem]:
    folder = _shipped(project, package, "profiles")
    profile = entry.get("profile", "prod")
    if folder is None or not isinstance(profile, str):
        return
    known = sorted(path.stem for path in folder.glob("*.y*ml") if path.stem != "base")
    if profile not in known:
        found = describe(profile) + ("" if "profile" in entry else " (the default)")
        listed = ", ".join(known) or "none there"
        yield Problem(
            (*here, "profile"),
            f"{found}, which is no file in {folder.relative_to(project)}",
            f"one of {listed}{suggestion(profile, known)}",
        )


def schema_problems(path: Path, config: dict[str, Any], where: Where, vaulted: frozenset[Where]) -> Iterator[Problem]:
    """Yield where `config` does not fit the JSON schema that the app ships for its settings.

    `config` names single settings, so what the schema requires may be missing from it.
    """
    import jsonschema  # noqa: PLC0415  a tenth of a short run, which apps without a schema do not pay
    import referencing.exceptions  # noqa: PLC0415

    try:
        schema = _without_required(json.loads(path.read_text(encoding="utf-8")))
        validator = jsonschema.validators.validator_for(schema)
        validator.check_schema(schema)
        # An empty registry: a schema that refers to another one on the network is not fetched.
        errors = list(validator(schema, registry=referencing.Registry()).iter_errors(config))
    except (OSError, ValueError, jsonschema.SchemaError, referencing.exceptions.Unresolvable) as broken:
        text = str(broken).partition("\n")[0]
        yield Problem((*where[:-1], "source", "path"), f"{path.name} that cannot be used ({text})", "a JSON schema")
        return
    for error in errors:
        yield from _schema_problem(error, where, vaulted)


def _without_required(schema: Any) -> Any:
    if isinstance(schema, dict):
        kept = {key: value for key, value in schema.items() if key != "required" or not isinstance(value, list)}
        return {key: _without_required(value) for key, value in kept.items()}
    if isinstance(schema, list):
        return [_without_required(value) for value in schema]
    return schema


def _schema_problem(error: "jsonschema.ValidationError", where: Where, vaulted: frozenset[Where]) -> Iterator[Problem]:
    place: Where = (*where, *error.absolute_path)
    if error.validator == "additionalProperties" and isinstance(error.instance, dict):
        known = list(_mapping(error.schema).get("properties", {}))
        for key in error.instance:
            if key not in known:
                yield Problem((*place, key), "an unknown key", f"one of {', '.join(known)}{suggestion(key, known)}")
        return
    if error.validator in {"anyOf", "oneOf"} and error.context:
        branches: dict[object, list[jsonschema.ValidationError]] = {}
        for inner in error.context:
            branches.setdefault(inner.relative_schema_path[0], []).append(inner)
        # The alternatives of the right type; usually "null or something": then only the something is of interest.
        fitting = [
            inner for inner in branches.values() if not any(one.validator == "type" and not one.path for one in inner)
        ]
        if len(fitting) == 1:
            for inner in fitting[0]:
                yield from _schema_problem(inner, where, vaulted)
            return
    hide = any(step[: len(place)] == place for step in vaulted)
    found = describe(error.instance, hide=hide)
    expected = schema_text(error.schema)
    note = _type_note(error.instance, expected, hide=hide) if error.validator == "type" else ""
    yield Problem(place, found + note, expected)


def schema_text(schema: Any) -> str:
    """Say in words what a JSON schema of a single value expects."""
    schema = _mapping(schema)
    if "enum" in schema:
        return "one of " + ", ".join(map(str, schema["enum"]))
    if "const" in schema:
        return str(schema["const"])
    if branches := schema.get("anyOf") or schema.get("oneOf"):
        return " or ".join(dict.fromkeys(schema_text(branch) for branch in branches))
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    text = " or ".join(_JSON_TYPES.get(kind, kind) for kind in kinds) or "another value"
    words = {
        "minimum": "at least {}",
        "exclusiveMinimum": "more than {}",
        "maximum": "at most {}",
        "exclusiveMaximum": "less than {}",
        "minLength": "at least {} long",
        "maxLength": "at most {} long",
        "minItems": "with at least {} items",
        "maxItems": "with at most {} items",
        "pattern": "that matches {}",
        "multipleOf": "a multiple of {}",
    }
    notes = [words[key].format(schema[key]) for key in words if key in schema]
    return text + (" " + " and ".join(notes) if notes else "")
