"""What a model of one key cannot say: rules between the keys of an entry of `apps`, and between entries."""

import re
from collections.abc import Iterator
from typing import Any

from .mistakes import Problem, Where, describe, expectation, mapping, path_text
from .model import App, variable_problem

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


def rules_of_one(entry: dict[str, Any], here: Where, vaulted: frozenset[Where]) -> Iterator[Problem]:
    """Yield what is wrong between the fields of one app."""
    yield from _rules_of_source(entry, here)
    yield from _rules_of_wsgi(entry, here)
    yield from _rules_of_variables(entry, here)
    yield from _rules_of_data_dir(entry, here)
    yield from _rules_of_http(entry, here)
    yield from _rules_of_processes(entry, here)
    yield from _rules_of_redis(entry, here)
    limit = mapping(entry.get("limits")).get("request_s", 30)
    drain = mapping(entry.get("release")).get("drain_s", 60)
    if isinstance(limit, int) and isinstance(drain, int) and drain < limit and entry.get("wsgi") is not None:
        given_drain = "drain_s" in mapping(entry.get("release"))
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
    source = mapping(entry.get("source"))
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
        if place[-1] in (mapping(entry.get(place[0])) if len(place) > 1 else entry):
            expected = "no such key: it is about requests, and an app without wsgi gets none"
            yield Problem((*here, *place), f"{place[-1]} without wsgi", expected)


def _rules_of_http(entry: dict[str, Any], here: Where) -> Iterator[Problem]:
    """Yield what does not fit between the names, the paths and the headers of one app."""
    names = entry.get("server_names")
    if isinstance(names, list) and names and str(names[0]).startswith("*."):
        expected = "a plain name first: it is what the gate asks under, and where redirect_names lead"
        yield Problem((*here, "server_names", 0), describe(names[0]), expected)
    http = mapping(entry.get("http"))
    drain = mapping(entry.get("release")).get("drain_s", 60)
    seen: set[str] = set()
    paths = http.get("paths")
    for index, limits in enumerate(paths if isinstance(paths, list) else []):
        place, path = (*here, "http", "paths", index), mapping(limits).get("path")
        if isinstance(path, str) and path in seen:
            yield Problem((*place, "path"), f"{describe(path)} again", "each path once")
        if path == "/":
            yield Problem((*place, "path"), describe(path), "a path below it: what holds for all of them is in limits")
        seen.add(str(path))
        given = {"request_s", "body_mb", "stream"} & limits.keys() if isinstance(limits, dict) else set()
        if isinstance(limits, dict) and not given and "app" not in limits:
            yield Problem(place, "a path without limits", "at least one of request_s, body_mb, stream, or app")
        if given and mapping(limits).get("app") is not None:
            yield Problem(
                place,
                f"app and {' and '.join(sorted(given))}",
                "one of them: the limits are those in the other app's entry",
            )
        limit = mapping(limits).get("request_s")
        if isinstance(limit, int) and isinstance(drain, int) and drain < limit:
            expected = f"at most release.drain_s ({drain}), or a release would end running requests"
            yield Problem((*place, "request_s"), str(limit), expected)
    yield from _rules_of_static(entry, here, seen)
    yield from _rules_of_access(entry, here)
    for name in mapping(http.get("headers")):
        if str(name).lower() in _OWN_HEADERS:
            yield Problem((*here, "http", "headers", name), f"the header {name}", "another: NGINX sets this one itself")


def _rules_of_access(entry: dict[str, Any], here: Where) -> Iterator[Problem]:
    """Yield what does not fit in who may reach an app; no line of a password is shown."""
    access, place = mapping(entry.get("http")).get("access"), (*here, "http", "access")
    if not isinstance(access, dict):
        return
    if not access.get("users") and not access.get("authority"):
        yield Problem(place, "neither users nor authority", "at least one of them: without, nobody is kept out")
    name, secrets = access.get("users"), mapping(entry.get("secrets"))
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
    for path, named in mapping(entry.get("static")).items():
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
        name = mapping(given).get("name")
        if isinstance(name, str) and name in seen:
            yield Problem((*here, "jobs", index, "name"), f"{describe(name)}, which is taken", "another name")
        seen.add(str(name))
    listed = entry.get("processes")
    for index, given in enumerate(listed if isinstance(listed, list) else []):
        place, process = (*here, "processes", index), mapping(given)
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
    asked, where = mapping(entry["redis"]), (*here, "redis")
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
        for name in mapping(entry.get(part)):
            place = (*here, part, name)
            reason = variable_problem(name) if isinstance(name, str) else ""
            if reason is not None:
                expected = "another name" if reason else "a variable name of A-Z, a-z, 0-9 and _"
                yield Problem(place, f"the name {name}" + (f" ({reason})" if reason else ""), expected)
            elif part == "env" and name in mapping(entry.get("secrets")):
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
    by_name = {str(entry.get("name")): entry for entry in map(mapping, apps)}
    for index, entry in enumerate(map(mapping, apps)):
        paths = mapping(entry.get("http")).get("paths")
        for position, limits in enumerate(paths if isinstance(paths, list) else []):
            name, path = mapping(limits).get("app"), mapping(limits).get("path")
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
            elif mapping(other.get("http")).get("access") and not mapping(entry.get("http")).get("access"):
                found = f"{describe(name)}, which has http.access"
                yield Problem(place, found, "http.access here too, or none there: everybody could reach it here")
            if str(path).startswith(f"{entry.get('mount')}/") and entry.get("mount"):
                yield Problem((*place[:-1], "path"), f"{path}, which is below this app's mount", "one that is not")


def rules_of_all(apps: list[Any]) -> Iterator[Problem]:
    """Yield names that two apps share."""
    yield from _rules_of_joined(apps)
    names: dict[str, int] = {}
    hosts: dict[str, Where] = {}
    for index, entry in enumerate(apps):
        name = mapping(entry).get("name")
        if isinstance(name, str) and names.setdefault(name, index) != index:
            found = f"{describe(name)}, the name of apps[{names[name]}] too"
            yield Problem((index, "name"), found, "another name for each app")
        for key in ("server_names", "redirect_names"):
            listed = mapping(entry).get(key)
            for position, host in enumerate(listed if isinstance(listed, list) else []):
                place: Where = (index, key, position)
                if isinstance(host, str) and hosts.setdefault(host.lower(), place) != place:
                    yield Problem(
                        place,
                        f"{describe(host)}, which is {path_text(hosts[host.lower()])} too",
                        "each server name once: NGINX picks the app by it",
                    )
