"""Which package indexes a build uses: one answer for what is resolved and for what is downloaded.

uv resolves and pip downloads, and each has own files and variables for the same thing. Here both sets are read and put together with the options of the
project's requirements; both programs are then told the result through variables, because addresses may hold credentials and argument lists are public.
Passwords in netrc and keyrings are found by both themselves.

The two differ in what several indexes mean. What pip's words name is looked through as pip does: the best version of all of them, and of equal ones the
default index's, which has the files for all Pythons. What uv's words name comes first, and hides what others have of the same name.
"""

from __future__ import annotations

import os
import pathlib
import shlex
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

from pip._internal.models.index import PyPI

from .programs import run, tool

_FILES = ("uv.toml", "pyproject.toml")


@dataclass
class Indexes:
    """Where packages come from."""

    default: str = ""  # empty: the public index, which both programs know
    first: list[str] = field(default_factory=list)  # hide what others have of the same name
    extra: list[str] = field(default_factory=list)
    find_links: list[str] = field(default_factory=list)
    trusted: list[str] = field(default_factory=list)  # hosts whose certificate is not checked
    no_index: bool = False
    certificates: str = ""
    strategy: str = ""  # uv's, when somebody chose one
    asks_pip: bool = (
        False  # pip's configuration counts too; pip takes half a second to say it, so it is asked when it matters
    )

    def add(self, other: Indexes) -> None:
        """Take over what another place says; what is there already is stronger."""
        self.default = self.default or other.default
        self.first += [each for each in other.first if each not in self.first]
        self.extra += [each for each in other.extra if each not in self.extra]
        self.find_links += [each for each in other.find_links if each not in self.find_links]
        self.trusted += [each for each in other.trusted if each not in self.trusted]
        self.no_index = self.no_index or other.no_index
        self.certificates = self.certificates or other.certificates
        self.strategy = self.strategy or other.strategy

    def _complete(self) -> None:
        if self.asks_pip:
            self.asks_pip = False
            self.add(_of_pip())

    def places(self) -> list[pathlib.Path]:
        """Directories of this machine among them."""
        self._complete()
        found = [self.default, *self.first, *self.extra, *self.find_links, self.certificates]
        paths = [pathlib.Path(each.removeprefix("file://")) for each in found if each.startswith(("/", "file:///"))]
        # Pages of an index on disk lead to files that lie next to them: simple/ and files/ are parts of one.
        whole = [path.parent if path.name == "simple" else path for path in paths]
        return [path for path in dict.fromkeys(whole) if path.exists()]

    def variables(self) -> dict[str, str]:
        """The environment in which uv and pip use these and no others."""
        self._complete()
        ranked = [*self.first, self.default or PyPI.simple_url, *self.extra] if self.extra else self.first
        found = {
            "UV_DEFAULT_INDEX": self.default,
            "UV_INDEX": " ".join(ranked),
            "UV_INDEX_STRATEGY": self.strategy or ("first-index" if self.first else "unsafe-best-match"),
            "UV_FIND_LINKS": ",".join(self.find_links),
            "UV_INSECURE_HOST": " ".join(self.trusted),
            "UV_NO_INDEX": "1" if self.no_index else "",
            "PIP_INDEX_URL": self.default,
            "PIP_EXTRA_INDEX_URL": " ".join([*self.first, *self.extra]),
            "PIP_FIND_LINKS": " ".join(self.find_links),
            "PIP_TRUSTED_HOST": " ".join(self.trusted),
            "PIP_NO_INDEX": "1" if self.no_index else "",
            "PIP_CERT": self.certificates,
            "SSL_CERT_FILE": self.certificates,
        }
        dropped = ("UV_INDEX_URL", "UV_EXTRA_INDEX_URL", *found)
        # A constraint of this machine's pip is for what is installed on it.
        outer = {name: value for name, value in os.environ.items() if name not in dropped and name != "PIP_CONSTRAINT"}
        return {
            **outer,
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            **{name: value for name, value in found.items() if value},
        }


def known(project: pathlib.Path | None, asked: Indexes) -> Indexes:
    """All that is configured, strongest first: the requirements' own options, uv's variables and files, pip's variables and files.

    Args:
        project: the directory of the project, whose uv.toml or pyproject.toml may name indexes.
        asked: what options in the project's requirements say.
    """
    found = Indexes(asks_pip=True)
    found.add(asked)
    found.add(_variables_of_uv())
    for settings in _settings_of_uv(project):
        found.add(_of_uv(settings))
        found.add(_of_uv(settings.get("pip", {})))
    return found


def option(name: str, value: str, base: pathlib.Path, into: Indexes) -> bool:
    """Take over one option of a requirements file; whether it is one about indexes."""
    match name:
        case "-i" | "--index-url" | "--pypi-url":
            into.default = value
        case "--extra-index-url":
            into.extra.append(value)
        case "-f" | "--find-links":
            local = "://" not in value and (base / value).exists()
            into.find_links.append(str((base / value).resolve()) if local else value)
        case "--trusted-host":
            into.trusted.append(value)
        case "--no-index":
            into.no_index = True
        case _:
            return False
    return True


def _variables_of_uv() -> Indexes:
    env = os.environ
    default = env.get("UV_DEFAULT_INDEX") or env.get("UV_INDEX_URL", "")
    extra = f"{env.get('UV_INDEX', '')} {env.get('UV_EXTRA_INDEX_URL', '')}".split()
    return Indexes(
        default=_with_credentials(_address(default), default.partition("=")[0] if _is_named(default) else ""),
        first=[_with_credentials(_address(each), each.partition("=")[0] if _is_named(each) else "") for each in extra],
        find_links=[each.strip() for each in env.get("UV_FIND_LINKS", "").split(",") if each.strip()],
        trusted=env.get("UV_INSECURE_HOST", "").split(),
        no_index=_is_true(env.get("UV_NO_INDEX", "")),
        certificates=env.get("SSL_CERT_FILE", ""),
        strategy=env.get("UV_INDEX_STRATEGY", ""),
    )


def _is_named(text: str) -> bool:
    """`name=address`, as uv's variables may have it."""
    return "=" in text.partition("://")[0]


def _address(text: str) -> str:
    return text.partition("=")[2] if _is_named(text) else text


def _settings_of_uv(project: pathlib.Path | None) -> Iterable[dict[str, Any]]:
    """Uv's settings: the project's (its own directory or the nearest above), the user's, the machine's."""
    if os.environ.get("UV_NO_CONFIG"):
        return
    folders = [project.resolve(), *project.resolve().parents] if project else []
    for folder in folders:
        found = next((each for name in _FILES if (each := _uv_table(folder / name)) is not None), None)
        if found is not None:
            yield found
            break
    user = pathlib.Path(os.environ.get("XDG_CONFIG_HOME") or pathlib.Path.home() / ".config")
    for path in (user / "uv/uv.toml", pathlib.Path("/etc/xdg/uv/uv.toml"), pathlib.Path("/etc/uv/uv.toml")):
        yield _uv_table(path) or {}


def _uv_table(path: pathlib.Path) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    table = found.get("tool", {}).get("uv") if path.name == "pyproject.toml" else found
    return table if isinstance(table, dict) else None


def _of_uv(settings: Mapping[str, Any]) -> Indexes:
    found = Indexes(default=str(settings.get("index-url", "")), no_index=bool(settings.get("no-index")))
    found.strategy = str(settings.get("index-strategy", ""))
    found.first += map(str, settings.get("extra-index-url", []))
    found.find_links += map(str, settings.get("find-links", []))
    found.trusted += map(str, settings.get("allow-insecure-host", []))
    for each in settings.get("index", []):
        address = _with_credentials(str(each.get("url", "")), str(each.get("name", "")))
        if each.get("default"):
            found.default = address
        else:
            found.first.append(address)
    return found


def _with_credentials(address: str, name: str) -> str:
    """An index with the user and password that uv's variables give for its name."""
    variable = "UV_INDEX_" + "".join(each if each.isalnum() else "_" for each in name).upper()
    user, password = os.environ.get(f"{variable}_USERNAME", ""), os.environ.get(f"{variable}_PASSWORD", "")
    parts = urlsplit(address)
    if not name or not (user or password) or "@" in parts.netloc:
        return address
    return urlunsplit(parts._replace(netloc=f"{quote(user, safe='')}:{quote(password, safe='')}@{parts.netloc}"))


def _of_pip() -> Indexes:
    """Pip says itself what its files and variables come to; of its commands' own sections, that of `download`, then `install`."""
    printed = run([tool("python"), "-m", "pip", "config", "list"], "pip's configuration cannot be read")
    values: dict[str, str] = {}
    for section in ("global", "install", "download", ":env:"):
        for line in printed.splitlines():
            key, _, value = line.partition("=")
            if key.startswith(f"{section}."):
                values[key.removeprefix(f"{section}.")] = " ".join(shlex.split(value))
    return Indexes(
        default=values.get("index-url", ""),
        extra=values.get("extra-index-url", "").split(),
        find_links=values.get("find-links", "").split(),
        trusted=values.get("trusted-host", "").split(),
        no_index=_is_true(values.get("no-index", "")),
        certificates=values.get("cert", ""),
    )


def _is_true(text: str) -> bool:
    return text.strip().lower() in {"1", "true", "yes", "on", "y", "t"}
