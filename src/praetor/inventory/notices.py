"""What the inventory's `release_notify` and `release_hooks` may say: who is told of releases, and which commands of the operator run around them.

The check and docs/notices.md are made from it. Runs on the controller only.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, Field, ValidationError

from .mistakes import describe, expected_of
from .model import Command, Must, Part

EventName = Literal["start", "success", "failure", "rollback"]
EVENTS: tuple[EventName, ...] = ("start", "success", "failure", "rollback")
KINDS = ("webhook", "slack", "grafana", "mail", "command")
_ADDRESS = re.compile(r"[^@\s<>\"]+@[^@\s<>\"]+")
_SERVER = re.compile(r"[A-Za-z0-9.-]+(:[0-9]{1,5})?|\[[0-9A-Fa-f:]+\](:[0-9]{1,5})?")
_HEADER = re.compile(r"[A-Za-z][A-Za-z0-9-]*")


def _url_problem(value: str) -> str | None:
    url = urlsplit(value)
    return None if url.scheme in {"http", "https"} and url.hostname and not re.search(r"\s", value) else ""


def _headers_problem(value: dict[str, str]) -> str | None:
    wrong = [name for name, text in value.items() if not _HEADER.fullmatch(name) or not text.isprintable()]
    return f"{wrong[0]} is no header" if wrong else None


def _some_problem(value: list[str]) -> str | None:
    return None if value else ""


Url = Annotated[str, Must("an address that begins with https:// or http://", _url_problem)]
Address = Annotated[str, Must("a mail address", lambda value: None if _ADDRESS.fullmatch(value) else "")]
Word = Annotated[str, Must("a string", lambda value: None if value.isprintable() and value else "")]
Event = Annotated[EventName, Must(f"one of {', '.join(EVENTS)}")]


class Mail(Part):
    """A mail, and the server that takes it."""

    to: Annotated[list[Address], Must("a list of mail addresses", _some_problem)] = Field(description="Who gets it.")
    sender: Address = Field(description="Who it is from.")
    server: Annotated[str, Must("HOST or HOST:PORT", lambda value: None if _SERVER.fullmatch(value) else "")] = Field(
        description="The server that takes it; port 587 unless given, 465 with `tls: immediate`."
    )
    tls: Annotated[Literal["starttls", "immediate", "none"], Must("starttls, immediate or none")] = Field(
        default="starttls", description="How the connection is encrypted; `none` for a server on this machine."
    )
    user: Word | None = Field(default=None, description="Name to log in with.")
    password: Word | None = Field(default=None, description="Password to log in with; vaulted.")


class Notice(Part):
    """Somebody who is told: exactly one of `webhook`, `slack`, `grafana`, `mail` or `command`."""

    # Not `on`, which YAML reads as true.
    events: Annotated[list[Event], Must(f"a list of {', '.join(EVENTS)}", _some_problem)] = Field(
        default=list(EVENTS),
        description="Which events: a release `start`s, it ends with `success` or `failure`, a `rollback` has ended well.",
    )
    webhook: Url | None = Field(default=None, description="Gets the event as JSON, by POST.")
    slack: Url | None = Field(
        default=None, description="Gets the event as a message, in the form of Slack, which Mattermost and others read."
    )
    grafana: Url | None = Field(default=None, description="Address of a Grafana that gets an annotation; with `token`.")
    mail: Mail | None = Field(default=None, description="Gets the event as a mail.")
    command: Command | None = Field(
        default=None, description="Gets the event as JSON on standard input, and in its environment as hooks do."
    )
    headers: Annotated[dict[str, str], Must("a mapping of header names to strings", _headers_problem)] = Field(
        default_factory=dict, description="Headers for `webhook`, such as Authorization; vaulted."
    )
    token: Word | None = Field(default=None, description="Service account token of `grafana`; vaulted.")

    @property
    def kind(self) -> str:
        """Which of the kinds it is."""
        return next(kind for kind in KINDS if getattr(self, kind) is not None)

    @property
    def shown(self) -> str:
        """The kind, and as much of the place as is no secret."""
        if self.mail:
            return f"mail to {', '.join(self.mail.to)}"
        if self.command:
            return f"command {self.command[0]}"
        return f"{self.kind} {urlsplit(self.webhook or self.slack or self.grafana or '').hostname}"


class Hooks(Part):
    """Commands on the controller around what a run does, each app's release by itself. Where they run: the project's root."""

    before_build: list[Command] = Field(default_factory=list, description="Before anything is built.")
    after_build: list[Command] = Field(default_factory=list, description="After all apps of the run are built.")
    before_release: list[Command] = Field(default_factory=list, description="Before a release touches a host.")
    after_release: list[Command] = Field(default_factory=list, description="After a release is live on all hosts.")
    before_rollback: list[Command] = Field(default_factory=list, description="Before a rollback touches a host.")
    after_rollback: list[Command] = Field(default_factory=list, description="After a rollback is live on all hosts.")
    before_refresh: list[Command] = Field(
        default_factory=list, description="Before what is live is started again in new slots."
    )
    after_refresh: list[Command] = Field(default_factory=list, description="After it has been, on all hosts.")
    failure: list[Command] = Field(
        default_factory=list,
        description="After a release, a rollback or a refresh failed: it was undone, or is live and not settled.",
    )


class Notices(Part):
    """Both variables."""

    # `notify` alone is a word of Ansible's own.
    release_notify: list[Notice] = Field(default_factory=list)
    release_hooks: Hooks = Field(default_factory=Hooks)


def check(notify: object, hooks: object) -> list[str]:
    """Say every mistake, with its place, what was found and what is expected. No value is shown: most of them are secrets.

    Args:
        notify: plain value of the variable, None where it is missing.
        hooks: the same.
    """
    given = {name: value for name, value in (("release_notify", notify), ("release_hooks", hooks)) if value is not None}
    if not given:
        return []
    found = []
    try:
        Notices.model_validate(given)
    except ValidationError as error:
        found = [
            _mistake(each["loc"], each["type"], each["input"], str(each.get("ctx", {}).get("error", "")))
            for each in error.errors()
        ]
    for index, entry in enumerate(notify if isinstance(notify, list) else []):
        if isinstance(entry, dict):
            found += _rules(entry, f"release_notify[{index}]")
    return list(dict.fromkeys(found))


def plain(resolve: Callable[[Any], Any], value: Any) -> Any:
    """Return a variable as plain data.

    Args:
        resolve: opens what is vaulted and fills in templates.
        value: the variable, as Ansible has it.
    """
    if isinstance(value, Mapping):
        return {str(key): plain(resolve, inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(resolve, inner) for inner in value]
    found = resolve(value)
    if isinstance(found, Mapping | list | tuple):
        return plain(resolve, found)
    if isinstance(found, bool) or found is None:
        return found
    # Without the marks that Ansible puts on values.
    return next((kind(found) for kind in (str, int, float) if isinstance(found, kind)), found)


def _rules(entry: dict[str, Any], where: str) -> list[str]:
    kinds = [kind for kind in KINDS if entry.get(kind) is not None]
    found = []
    if len(kinds) != 1:
        listed = f"{' and '.join(kinds)} together" if kinds else "none of them"
        found.append(f"{where}: found {listed}, expected exactly one of {', '.join(KINDS)}")
    for key, kind in (("headers", "webhook"), ("token", "grafana")):
        if entry.get(key) and kinds != [kind]:
            found.append(f"{where}.{key}: found it without {kind}, expected it with {kind} only")
    if kinds == ["grafana"] and not entry.get("token"):
        found.append(f"{where}.token: found nothing, expected a token that may write annotations")
    mail = entry.get("mail")
    if isinstance(mail, dict) and bool(mail.get("user")) != bool(mail.get("password")):
        found.append(f"{where}.mail: found one of user and password, expected both or none")
    if isinstance(mail, dict) and mail.get("password") and mail.get("tls") == "none":
        found.append(f"{where}.mail.tls: found none with a password, expected starttls or immediate")
    return found


def _mistake(loc: tuple[int | str, ...], kind: str, value: object, why: str) -> str:
    where = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in loc).removeprefix(".")
    if kind == "extra_forbidden":
        known = list(_model_at(loc[:-1]).model_fields)
        near = difflib.get_close_matches(str(loc[-1]), known, n=1, cutoff=0.65)
        hint = f"; did you mean {near[0]}?" if near else ""
        return f"{where}: found an unknown key, expected one of {', '.join(known)}{hint}"
    expected = _expected(loc)
    found = "nothing" if kind == "missing" else describe(value, hide=True) + (f" ({why})" if why else "")
    return f"{where}: found {found}, expected {expected}"


def _model_at(loc: tuple[int | str, ...]) -> type[BaseModel]:
    names = [step for step in loc if isinstance(step, str)]
    return (
        {"release_notify": Mail if "mail" in names else Notice, "release_hooks": Hooks}[names[0]] if names else Notices
    )


def _expected(loc: tuple[int | str, ...]) -> str:
    names = [step for step in loc if isinstance(step, str)]
    inside = isinstance(loc[-1], int)
    if names == ["release_notify"]:
        return f"a mapping with one of {', '.join(KINDS)}" if inside else "a list of who is told"
    if names == ["release_hooks"]:
        return f"a mapping with the keys {', '.join(Hooks.model_fields)}"
    if names == ["release_notify", "mail"]:
        return f"a mapping with the keys {', '.join(Mail.model_fields)}"
    info = _model_at(loc[:-1] if not inside else loc[:-2]).model_fields.get(names[-1])
    if info is None:
        return "a value"
    if inside:
        return {"events": f"one of {', '.join(EVENTS)}", "to": "a mail address"}.get(names[-1], "a command")
    if names[0] == "release_hooks":
        return "a list of commands"
    return expected_of(Annotated[(info.annotation, *info.metadata, "")])
