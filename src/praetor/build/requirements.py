"""What an app needs, as its project says it: the files that may say so, and one line of them."""

from __future__ import annotations

import os
import pathlib
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field

from packaging.requirements import InvalidRequirement
from packaging.requirements import Requirement as Parsed

from praetor.host.layout import ReleaseError

from .cache import normalised
from .indexes import Indexes, option
from .programs import without_credentials
from .systems import SYSTEMS

_HASH = re.compile(r"--hash[= ](\S+)")
_VARIABLE = re.compile(r"\$\{([A-Z0-9_]+)\}")
_NO_MATTER = frozenset({"--require-hashes", "--prefer-binary", "--use-feature", "--no-emit-index-url"})
_MORE = ("-r", "--requirement", "-c", "--constraint")


@dataclass(frozen=True)
class Requirement:
    """One requirement: `name==version ; marker`, `name @ address`, or a path, with the hashes of its files."""

    text: str
    hashes: tuple[str, ...] = ()
    base: pathlib.Path = pathlib.Path()  # what a relative path is relative to

    @property
    def name(self) -> str:
        """The project's normalised name, PEP 503; of a path, its last part."""
        if self.path is not None:
            return normalised(self.path.name)
        return normalised(re.split(r"[\s\[=<>!~;@]", self.text, maxsplit=1)[0])

    @property
    def path(self) -> pathlib.Path | None:
        """The file or directory that is meant, None for what comes from elsewhere."""
        text = _without_marker(self.text)
        address = text.partition(" @ ")[2].strip() or text
        address = re.sub(r"\[[A-Za-z0-9_,. -]*\]$", "", address)
        if address.startswith("file:"):
            return pathlib.Path(re.sub(r"^file:(//)?", "", address).partition("#")[0])
        if "://" in address or not re.match(r"^[./]|.*\.(whl|tar\.gz|zip)$|.*/", address):
            return None
        return self.base / address

    @property
    def git(self) -> tuple[str, str, str] | None:
        """Repository, ref and directory of `git+URL@ref#subdirectory=x`."""
        address = _without_marker(self.text).partition(" @ ")[2].strip()
        if not address.startswith("git+"):
            return None
        address, _, fragment = address.removeprefix("git+").partition("#")
        head, slash, tail = address.rpartition("/")
        last, at, ref = tail.partition("@")
        subdirectory = re.search(r"subdirectory=([^&]+)", fragment)
        return f"{head}{slash}{last}", ref if at else "HEAD", subdirectory[1] if subdirectory else "."

    @property
    def version(self) -> str:
        """The one version that it is pinned to, or nothing."""
        found = re.search(r"===?\s*([^\s;,]+)", _without_marker(self.text)) if self.path is None else None
        return found[1] if found else ""

    @property
    def locked(self) -> bool:
        """Pinned to one version and to its files, or to what lies in the project or at a commit."""
        if self.path is not None:
            return True
        if self.git is not None:
            return re.fullmatch(r"[0-9a-f]{40}", self.git[1]) is not None
        return bool(self.hashes) and bool(self.version or " @ " in self.text)

    @property
    def marker(self) -> str:
        """When it is needed, PEP 508; empty for always."""
        return self.text[len(_without_marker(self.text)) :].lstrip(" ;").strip()

    @property
    def line(self) -> str:
        """As pip reads it, without its marker."""
        return " ".join([_without_marker(self.text), *(f"--hash={value}" for value in sorted(self.hashes))])


@dataclass
class Told:
    """What the requirements files of a project say, with all that they include."""

    files: list[pathlib.Path] = field(default_factory=list)
    requirements: list[Requirement] = field(default_factory=list)
    constraints: bool = False
    indexes: Indexes = field(default_factory=Indexes)
    pre: bool = False

    @property
    def locked(self) -> bool:
        """Whether nothing is left to resolve."""
        return any(each.hashes for each in self.requirements) and all(each.locked for each in self.requirements)


def _without_marker(text: str) -> str:
    # In an address a semicolon is no marker unless a space stands before it.
    return re.split(r"\s+;|;\s+" if "://" in text else r"\s*;", text, maxsplit=1)[0].strip()


def read(path: pathlib.Path, project: pathlib.Path) -> Told:
    """Read a file in pip's format and those that it includes.

    Raises:
        ReleaseError: a file is missing or no text, or a line cannot be kept; with file and line.
    """
    told = Told()
    _read(path, project, told, constraint=False)
    return told


def parsed(text: str, base: pathlib.Path = pathlib.Path()) -> list[Requirement]:
    """The requirements of a lock, which includes nothing and whose options do not matter here."""
    return [_requirement(line, base) for _, line in _lines(text) if not line.startswith("-") or _is_editable(line)]


def _read(path: pathlib.Path, project: pathlib.Path, told: Told, *, constraint: bool) -> None:
    if path in told.files:
        return
    shown = os.path.relpath(path, project)
    told.files.append(path)
    for number, line in _lines(text_of(path, shown)):
        here = f"{shown}, line {number}: {without_credentials(line)}"
        if not line.startswith("-") or _is_editable(line):
            try:
                found = _requirement(_expanded(line, here), path.parent)
            except InvalidRequirement as error:
                raise ReleaseError(f"{here}: not a requirement ({str(error).splitlines()[0]})") from None
            told.constraints |= constraint
            if not constraint:
                _check_path(found, here)
                told.requirements.append(found)
            continue
        name, value = _option(line)
        if name in _MORE:
            _read(_included(path, value, here), project, told, constraint=constraint or name in _MORE[2:])
        elif name == "--pre":
            told.pre = True
        elif name in {"--no-binary", "--only-binary"}:
            continue  # wheels are taken where there are any, and sources are built where there are none
        elif not option(name, _expanded(value, here), path.parent, told.indexes) and name not in _NO_MATTER:
            raise ReleaseError(f"{here}: an option that the build does not know, and will not leave out: remove it")


def _check_path(found: Requirement, here: str) -> None:
    if found.path is not None and not found.path.exists():
        raise ReleaseError(f"{here}: there is no {found.path.name} at {found.path.parent}")


def _included(path: pathlib.Path, value: str, here: str) -> pathlib.Path:
    if "://" in value:
        raise ReleaseError(f"{here}: a file at an address can be another one tomorrow: copy it into the project")
    found = path.parent / value
    if not found.is_file():
        raise ReleaseError(f"{here}: there is no such file")
    return found


def text_of(path: pathlib.Path, shown: str) -> str:
    """The text of a file of a project.

    Raises:
        ReleaseError: it is not UTF-8; PowerShell's `>` writes UTF-16.
    """
    content = path.read_bytes()
    if content.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in content[:200]:
        raise ReleaseError(
            f"{shown}: found UTF-16, expected UTF-8: save it as UTF-8 (PowerShell: Out-File -Encoding utf8)"
        )
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ReleaseError(f"{shown}, line {line}: found bytes that are not UTF-8, expected UTF-8") from None


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Number and text of each logical line, without comments."""
    joined, began = "", 0
    for number, raw in enumerate(text.splitlines(), start=1):
        began = began or number
        if raw.rstrip().endswith("\\") and not raw.lstrip().startswith("#"):
            joined += raw.rstrip().removesuffix("\\") + " "
            continue
        line = re.sub(r"(^|\s)#.*$", "", joined + raw).strip()
        if line:
            yield began, line
        joined, began = "", 0
    if joined.strip():
        yield began, joined.strip()


def _requirement(line: str, base: pathlib.Path) -> Requirement:
    text, *_ = re.split(r"\s--(?:hash|config-settings?|global-option|install-option)\b", line, maxsplit=1)
    if _is_editable(text):
        text = re.sub(r"^(-e|--editable)[= ]\s*", "", text)
        if re.match(r"[a-z]+\+", text):  # -e git+URL#egg=name
            egg = re.search(r"[#&]egg=([A-Za-z0-9._-]+)", text)
            text = f"{egg[1] if egg else 'editable'} @ {text}"
    text = text.strip()
    text = text[1:-1] if text[:1] in {'"', "'"} and text[-1:] == text[:1] else text
    found = Requirement(text, tuple(_HASH.findall(line)), base)
    if found.path is None and not re.match(r"^[a-z]+\+", found.text) and "://" not in found.text:
        Parsed(found.text)
    return found


def _is_editable(line: str) -> bool:
    return line.startswith(("-e ", "-e=", "--editable ", "--editable="))


def _option(line: str) -> tuple[str, str]:
    words = shlex.split(line)
    name, equals, value = words[0].partition("=")
    if not equals and not name.startswith("--") and len(name) > 2:  # -rbase.txt
        return name[:2], name[2:]
    return name, value if equals else " ".join(words[1:])


def _expanded(text: str, here: str) -> str:
    """`${NAME}` as pip has it: a variable of this machine, so that a token need not stand in a file."""

    def value(match: re.Match[str]) -> str:
        if match[1] not in os.environ:
            raise ReleaseError(f"{here}: the variable {match[1]} is not set on this controller")
        return os.environ[match[1]]

    return _VARIABLE.sub(value, text)


def marker_environment(tag: str) -> dict[str, str]:
    """The environment that markers are evaluated in, PEP 508, on a supported system."""
    system = SYSTEMS[tag]
    return {
        "implementation_name": "cpython",
        "implementation_version": system.exact,
        "os_name": "posix",
        "platform_machine": system.machine,
        "platform_python_implementation": "CPython",
        "platform_release": "",
        "platform_system": "Linux",
        "platform_version": "",
        "python_full_version": system.exact,
        "python_version": system.python,
        "sys_platform": "linux",
        "extra": "",
    }


def applies(requirement: Requirement, tag: str) -> bool:
    """Whether the requirement's marker holds on a supported system."""
    if not requirement.marker:
        return True
    marker = Parsed(f"x ; {requirement.marker}").marker
    return marker is None or marker.evaluate(marker_environment(tag))
