"""What is wrong in `apps` in words for people: where it stands, what was found there and what the model expects."""

import datetime as dt
import difflib
import json
import re
import types
import typing
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, TypeAlias, get_args, get_origin

from pydantic import BaseModel

from .model import Must

Where: TypeAlias = tuple[str | int, ...]


@dataclass(frozen=True)
class Problem:
    """One mistake: where it is inside `apps`, what was found there and what is expected."""

    where: Where
    found: str
    expected: str

    def __str__(self) -> str:
        """Say it in one line, without the file."""
        return f"{path_text(self.where)}: found {self.found}, expected {self.expected}"


def path_text(where: Where) -> str:
    """Write a place as people do: apps[0].limits.request_s."""
    return "apps" + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in where)


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


def type_note(value: object, expected: str, *, hide: bool) -> str:
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


def is_hidden(where: Where, vaulted: frozenset[Where]) -> bool:
    """Tell whether a value must not be printed: it is vaulted, or in a place where secrets are or are easily put."""
    return where[1:2] in {("secrets",), ("env",)} or any(place[: len(where)] == where for place in vaulted)


def mapping(value: object) -> dict[str, Any]:
    """Return a mapping as it is, and an empty one for what is none: its type is another mistake."""
    return value if isinstance(value, dict) else {}


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


def at(model: type[BaseModel], loc: Sequence[str | int]) -> tuple[Where, Any]:
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
    return expected_of(at(model, loc)[1])


def known_keys(model: type[BaseModel], loc: Sequence[str | int]) -> str:
    """Say in words which keys there are at the place of an unknown one, and which is probably meant."""
    for part in _steps(at(model, loc[:-1])[1]):
        if isinstance(part, type) and issubclass(part, BaseModel):
            return f"one of {', '.join(part.model_fields)}{suggestion(loc[-1], part.model_fields)}"
    return "no such key"
