"""Fill the model from its layers and remember where each value came from.

model defaults <- profiles/base.yml <- profiles/<profile>.yml <- DATABASE_URL <- APP_CONFIG_FILE <- APP_SECRETS_DIR
<- environment
"""

import difflib
import re
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from types import UnionType
from typing import Any

import yaml
from pydantic import BaseModel, SecretStr, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from api.config.model import DEVELOPMENT, Settings

PREFIX = "API_"
SEPARATOR = "__"
RESERVED = "profile"
PLATFORM = "platform"


class ConfigError(Exception):
    """The configuration cannot be used. Each of `mistakes` names place, key, what was found and what is expected."""

    def __init__(self, mistakes: list[str]) -> None:
        super().__init__("; ".join(mistakes))
        self.mistakes = mistakes


@dataclass(frozen=True)
class Origin:
    """Where a value came from: the layer, and the file or variable in it."""

    layer: str
    place: str


_SOUNDS_SECRET = re.compile(r"pas+w|secret|token|credential|key", re.IGNORECASE).search

DEFAULT = Origin("default", "the model's default")


@dataclass(frozen=True)
class Identity:
    """What the platform says about this process; no setting, the same code tells it apart from its neighbours."""

    name: str
    release: str
    commit: str
    data_dir: Path


@dataclass(frozen=True)
class Loaded:
    """The result: settings, the origin of each key (`section.key`), and who we are."""

    settings: Settings
    origins: Mapping[str, Origin]
    identity: Identity


@dataclass
class _Merged:
    tree: dict[str, Any] = field(default_factory=dict)
    origins: dict[str, Origin] = field(default_factory=dict)
    mistakes: list[str] = field(default_factory=list)

    def add(self, values: Mapping[str, Any], origin: Origin) -> None:
        self._merge(self.tree, values, origin, "")

    def _merge(self, into: dict[str, Any], values: Mapping[str, Any], origin: Origin, prefix: str) -> None:
        for key, value in values.items():
            path = f"{prefix}{key}"
            if isinstance(value, Mapping):
                if not isinstance(into.get(key), dict):
                    into[key] = {}
                self.origins[path] = origin
                self._merge(into[key], value, origin, f"{path}.")
            else:
                into[key] = value
                self.origins[path] = origin

    def origin(self, path: str) -> Origin:
        while path not in self.origins and "." in path:
            path = path.rpartition(".")[0]
        return self.origins.get(path, DEFAULT)


def load(environ: Mapping[str, str]) -> Loaded:
    """Read all layers that `environ` names. Raises ConfigError with every mistake found, not only the first."""
    merged = _Merged()
    identity = Identity(
        name=environ.get("APP_NAME", "api"),
        release=environ.get("APP_RELEASE", "development"),
        commit=environ.get("APP_COMMIT", "unknown"),
        data_dir=Path(environ.get("APP_DATA_DIR") or "data").absolute(),
    )
    profile = environ.get("APP_PROFILE") or DEVELOPMENT
    _add_profiles(merged, profile)
    if address := environ.get("DATABASE_URL"):
        _add_database(merged, address)
    if path := environ.get("APP_CONFIG_FILE"):
        _add_file(merged, _text(merged, Path(path), "APP_CONFIG_FILE"), Origin("config", path))
    secrets = _secrets(merged, environ.get("APP_SECRETS_DIR"))
    for name, value in secrets.items():
        _add_variable(merged, name, value, Origin("secrets", f"secret {name}"))
    for name, value in sorted(environ.items()):
        # The platform hands every secret to the process twice, as a file and as a variable; that is one layer, not two.
        if name.startswith(PREFIX) and secrets.get(name) != value:
            _add_variable(merged, name, value, Origin("environment", f"environment {name}"))
    if merged.origin("database.url").layer != merged.origin("database.password").layer == PLATFORM:
        # Another server was named since, and the password is none of its business.
        del merged.tree["database"]["password"], merged.origins["database.password"]
    merged.tree[RESERVED] = profile
    merged.origins[RESERVED] = Origin("environment" if environ.get("APP_PROFILE") else "default", "APP_PROFILE")
    try:
        settings = Settings.model_validate(merged.tree)
    except ValidationError as error:
        merged.mistakes += [_describe(merged, mistake) for mistake in error.errors(include_url=False)]
    if merged.mistakes:
        raise ConfigError(merged.mistakes)
    return Loaded(settings, {path: merged.origins.get(path, DEFAULT) for path, _ in leaves(Settings)}, identity)


def leaves(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Every setting that holds a value, as `section.key` with its field."""
    for name, info in model.model_fields.items():
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            yield from leaves(info.annotation, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", info


def variable(path: str) -> str:
    """Name of a setting in the environment and among the secrets: `database.url` is `API_DATABASE__URL`."""
    return PREFIX + path.replace(".", SEPARATOR).upper()


def is_secret(info: FieldInfo) -> bool:
    """Whether the setting's value must never be shown nor stand in a file of settings."""
    kind = info.annotation
    return kind is SecretStr or (isinstance(kind, UnionType) and SecretStr in typing.get_args(kind))


SETTABLE = {path: info for path, info in leaves(Settings) if path != RESERVED}
VARIABLES = {variable(path): path for path in SETTABLE}
SECRETS = {path for path, info in SETTABLE.items() if is_secret(info)}


def _add_profiles(merged: _Merged, profile: str) -> None:
    folder = resources.files("api") / "profiles"
    known = sorted(entry.name.removesuffix(".yml") for entry in folder.iterdir() if entry.name.endswith(".yml"))
    known.remove("base")
    _add_file(merged, (folder / "base.yml").read_text("utf-8"), Origin("base", "profiles/base.yml"))
    if profile in known:
        text = (folder / f"{profile}.yml").read_text("utf-8")
        _add_file(merged, text, Origin("profile", f"profiles/{profile}.yml"))
    else:
        merged.mistakes.append(f"APP_PROFILE: found {profile!r}, expected one of {', '.join(known)}")


def _add_database(merged: _Merged, address: str) -> None:
    """The database that a platform gives an app, as platforms write it: with its password, and without a driver."""
    origin = Origin(PLATFORM, "environment DATABASE_URL")
    try:
        url = make_url(address)
    except ArgumentError:
        merged.mistakes.append(f"{origin.place}: expected postgresql://USER:PASSWORD@HOST/NAME")
        return
    driver = "postgresql+psycopg" if url.drivername in {"postgresql", "postgres"} else url.drivername
    bare = URL.create(driver, url.username, None, url.host, url.port, url.database, url.query)
    values: dict[str, Any] = {"url": bare.render_as_string()}
    if url.password is not None:
        values["password"] = SecretStr(str(url.password))
    merged.add({"database": values}, origin)


def _text(merged: _Merged, path: Path, variable_name: str) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        merged.mistakes.append(f"{variable_name}: cannot read {path}: {_reason(error)}")
        return ""


def _reason(error: OSError | UnicodeDecodeError) -> str:
    return str(error.strerror) if isinstance(error, OSError) else "it is not UTF-8"


def _add_file(merged: _Merged, text: str, origin: Origin) -> None:
    try:
        values = yaml.load(text, Loader=_UniqueKeys)  # noqa: S506 (it is a SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        merged.mistakes.append(f"{origin.place}: line {line}: {error.problem}")
        return
    except yaml.YAMLError as error:
        merged.mistakes.append(f"{origin.place}: {str(error).splitlines()[0]}")
        return
    if values is None:
        return
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        merged.mistakes.append(f"{origin.place}: expected a mapping of settings")
        return
    if RESERVED in values:
        merged.mistakes.append(f"{origin.place}: {RESERVED}: is chosen by APP_PROFILE and cannot be set here")
        del values[RESERVED]
    for path in sorted(SECRETS):
        section, _, key = path.rpartition(".")
        if isinstance(inner := values.get(section), dict) and key in inner:
            merged.mistakes.append(f"{origin.place}: {path}: is a secret; set it as {variable(path)} among the secrets")
            del inner[key]
    merged.add(values, origin)


class _UniqueKeys(yaml.SafeLoader):
    """PyYAML keeps the last of two equal keys and says nothing; a setting that is silently dropped is a mistake."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002
        seen = set()
        for key_node, _ in node.value:
            if key_node.value in seen:
                raise yaml.MarkedYAMLError(None, None, f"{key_node.value!r} is set twice", key_node.start_mark)
            seen.add(key_node.value)
        return super().construct_mapping(node, deep)


def _secrets(merged: _Merged, directory: str | None) -> dict[str, str]:
    if not directory:
        return {}
    try:
        files = sorted(path for path in Path(directory).iterdir() if path.name.startswith(PREFIX))
    except OSError as error:
        merged.mistakes.append(f"APP_SECRETS_DIR: cannot read {directory}: {error.strerror}")
        return {}
    return {path.name: _text(merged, path, f"secret {path.name}").removesuffix("\n") for path in files}


def _add_variable(merged: _Merged, name: str, value: str, origin: Origin) -> None:
    path = VARIABLES.get(name)
    if path is None:
        merged.mistakes.append(f"{origin.place}: unknown setting{_did_you_mean(name, VARIABLES)}")
        return
    kind: Any = SETTABLE[path].annotation
    try:
        typed = TypeAdapter(kind).validate_strings(value)
    except ValidationError as error:
        found = _shown(path, value, origin)
        merged.mistakes.append(f"{origin.place}: {path}: found {found}, expected {_expected(error.errors()[0])}")
        return
    section, _, key = path.rpartition(".")
    merged.add({section: {key: typed}} if section else {key: typed}, origin)


def _describe(merged: _Merged, mistake: ErrorDetails) -> str:
    path = ".".join(str(part) for part in mistake["loc"])
    if mistake["type"] == "rule":
        context = mistake["ctx"]
        path = f"{path}.{context['key']}" if path else context["key"]
        return f"{merged.origin(path).place}: {path}: {context['text']}"
    origin = merged.origin(path)
    if mistake["type"] == "extra_forbidden":
        section, _, key = path.rpartition(".")
        siblings = [name.rpartition(".")[2] for name in _keys() if name.rpartition(".")[0] == section]
        found = _shown(path, mistake["input"], origin)
        return f"{origin.place}: {path}: unknown key, found {found}{_did_you_mean(key, siblings)}"
    return f"{origin.place}: {path}: found {_shown(path, mistake['input'], origin)}, expected {_expected(mistake)}"


def _shown(path: str, value: object, origin: Origin) -> str:
    """The value for a message, unless it is secret: by its setting, by its layer, or by the sound of its name."""
    if path in SECRETS or origin.layer == "secrets" or _SOUNDS_SECRET(path):
        return "a value that is not shown"
    return "a mapping" if isinstance(value, Mapping) else repr(value)


def _keys() -> set[str]:
    return {*SETTABLE, *(path.rpartition(".")[0] for path in SETTABLE if "." in path)}


def _expected(mistake: ErrorDetails) -> str:
    if mistake["type"] in {"model_type", "model_attributes_type"}:
        return "a mapping of settings"
    message = mistake["msg"].removeprefix("Input should be ")
    return message.removeprefix("a valid ").strip() or message


def _did_you_mean(name: str, known: typing.Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    return f", did you mean {close[0]}?" if close else ""
