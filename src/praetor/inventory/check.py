"""Checks the inventory's `apps` on the controller, all mistakes at once.

Pure Python: the action plugin `check_inventory` hands over plain data and gets back apps with every default filled in, or
problems. Nothing here prints or knows Ansible.
"""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from praetor.documents import Entry, Joined

from .mistakes import Problem, Where, at, describe, expected_of, is_hidden, known_keys, type_note
from .model import App
from .rules import rules_of_all, rules_of_one
from .shipped import rules_of_files

_OTHER_NAMES = frozenset({"applications", "flask_apps", "app_list", "api", "apis"})


@dataclass(frozen=True)
class Checked:
    """The result: either problems, or `apps` (defaults filled in, without secrets) and `secrets` by app name."""

    apps: list[Entry] = field(default_factory=list)
    secrets: dict[str, dict[str, str]] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


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
            problems += rules_of_one(entry, (index,), vaulted)
            problems += rules_of_files(entry, (index,), root, vaulted)
    problems += rules_of_all(apps)
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


def _problem(details: ErrorDetails, index: int, entry: object, vaulted: frozenset[Where]) -> Problem:
    value = details["input"]
    if details["type"] == "extra_forbidden":
        return Problem((index, *details["loc"]), "an unknown key", known_keys(App, details["loc"]))
    steps, annotation = at(App, details["loc"])
    where: Where = (index, *steps)
    expected = expected_of(annotation)
    if details["type"] == "missing":
        name = entry.get("name") if isinstance(entry, dict) else None
        return Problem(where, "nothing" + (f" (app {name})" if isinstance(name, str) else ""), expected)
    hide = is_hidden(where, vaulted)
    found = describe(value, hide=hide)
    if details["type"] == "value_error":
        reason = str(details["ctx"]["error"])
        quoted = type_note(value, expected, hide=hide) if isinstance(value, str) else ""
        return Problem(where, found + (f" ({reason})" if reason else quoted), expected)
    return Problem(where, found + type_note(value, expected, hide=hide), expected)


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
