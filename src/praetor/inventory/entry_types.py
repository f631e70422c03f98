"""Writes `praetor.entry`: the types of an entry of `apps`, of its parts, and of what a release keeps of it, from the model. `make docs` runs it.

mypy reads types from a source and makes none from a model, and hosts have no pydantic; so the types are written, and a test holds them against the model.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Collection, Iterator, Mapping

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from .model import ALWAYS, BESIDES, App, Release, Source

_NAMES: dict[type[BaseModel], str] = {Source: "Origin", Release: "Options"}
_HEAD = '''"""The types of an entry of the inventory's `apps`, of its parts, and of what a release keeps of it.

Written by docs/generate_reference.py (`make docs`) from praetor.inventory.model. Changes here are overwritten.
"""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict


'''


def source() -> str:
    """The text of `praetor.entry`."""
    classes = [_part(model) for model in dict.fromkeys(_below(App))]
    given = {name: info for name, info in App.model_fields.items() if name != "secrets"}
    classes.append(
        _class("Given", "A checked entry: every default is filled in, and its secrets are not in it.", given)
    )
    kept = {name: info for name, info in App.model_fields.items() if name not in BESIDES}
    about = "The keys of an entry that are part of a release, as a host has it; one of an earlier version has fewer."
    classes.append(_class("Settings", about, kept, ALWAYS["App"]))
    names = "".join(f'    "{name}",\n' for name in kept)
    return _HEAD + "\n\n".join([*classes, f"SETTINGS = (\n{names})\n"])


def _part(model: type[BaseModel]) -> str:
    if model is Source:
        # What an entry does not say of its source is not there.
        there = {name for name, info in model.model_fields.items() if info.default is not None}
        return _class("Origin", str(model.__doc__), model.model_fields, there).replace(" | None]", "]")
    return _class(_NAMES.get(model, model.__name__), str(model.__doc__), model.model_fields, ALWAYS.get(model.__name__))


def _below(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """The models of the parts of a model, each after those that it needs."""
    for info in model.model_fields.values():
        for kind in _flat(info.annotation):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from _below(kind)
                yield kind


def _flat(kind: object) -> Iterator[object]:
    yield kind
    for inner in typing.get_args(kind):
        yield from _flat(inner)


def _class(name: str, about: str, fields: Mapping[str, FieldInfo], required: Collection[str] | None = None) -> str:
    """A type; all keys are required where nothing is said of that."""
    lines = ""
    for key, info in fields.items():
        text = _text(info.annotation)
        lines += f"    {key}: {text if required is None or key in required else f'NotRequired[{text}]'}\n"
    return f'class {name}(TypedDict):\n    """{about}"""\n\n{lines}'


def _text(kind: object) -> str:
    """A type as one writes it, without the rules for its values."""
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Annotated:
        return _text(inner[0])
    if origin in (types.UnionType, typing.Union):
        return " | ".join(map(_text, inner))
    if origin is typing.Literal:
        values = ", ".join(f'"{value}"' for value in inner)
        return f"Literal[{values}]"
    if origin in (list, dict):
        return f"{origin.__name__}[{', '.join(map(_text, inner))}]"
    if kind is typing.Any:
        return "object"
    if kind is type(None):
        return "None"
    if not isinstance(kind, type):
        raise TypeError(f"no type that can be written: {kind}")
    return _NAMES.get(kind, kind.__name__) if issubclass(kind, BaseModel) else kind.__name__
