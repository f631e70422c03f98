"""What an entry of `apps` says, held against the files that it names: the app's project, its profiles and its schema of settings."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .mistakes import Problem, Where, describe, mapping, suggestion, type_note

if TYPE_CHECKING:
    import jsonschema

# What else may lock it stands next to one of these, or is refused by the build with the command that exports it.
_SAYS_WHAT_IT_NEEDS = ("pyproject.toml", "requirements.txt", "pylock.toml", "setup.py", "setup.cfg", "Pipfile.lock")
_JSON_TYPES = {
    "string": "a string",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "array": "a list",
    "object": "a mapping",
    "null": "nothing",
}


def rules_of_files(entry: dict[str, Any], here: Where, root: Path, vaulted: frozenset[Where]) -> Iterator[Problem]:
    """Yield what does not fit the files that the entry names."""
    directives = mapping(entry.get("http")).get("directives")
    if isinstance(directives, str) and not (root / directives).is_file():
        found = f"{describe(directives)}, which is no file in {root}"
        yield Problem((*here, "http", "directives"), found, "a file with NGINX directives")
    authority = mapping(mapping(entry.get("http")).get("access")).get("authority")
    if isinstance(authority, str) and (reason := authority_problem(root / authority)):
        yield Problem(
            (*here, "http", "access", "authority"),
            f"{describe(authority)}, {reason}",
            "a file with certificates in PEM",
        )
    given = mapping(entry.get("source")).get("path")
    if not isinstance(given, str):
        return
    place = (*here, "source", "path")
    project = root / given
    if not given or not project.is_dir():
        yield Problem(place, f"{describe(given)}, which is no directory in {root}", "the directory of a Python project")
        return
    named = mapping(entry.get("source")).get("requirements")
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
        known = list(mapping(error.schema).get("properties", {}))
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
    note = type_note(error.instance, expected, hide=hide) if error.validator == "type" else ""
    yield Problem(place, found + note, expected)


def schema_text(schema: Any) -> str:
    """Say in words what a JSON schema of a single value expects."""
    schema = mapping(schema)
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
