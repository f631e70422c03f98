"""Makes an Ansible argument spec from a function's signature, so that arguments are declared in one place. Runs on the controller."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable

from praetor import documents

_PLAIN = {str: "str", int: "int", float: "float", bool: "bool"}
_SECRET = {"secrets"}  # names of arguments whose values Ansible must not show


def spec_of(function: Callable[..., object]) -> dict[str, dict[str, object]]:
    """The argument spec of what a function takes by keyword; a parameter without a default is required."""
    kinds = typing.get_type_hints(function, localns=vars(documents))
    return {
        name: _argument(name, kinds[name], found.default)
        for name, found in inspect.signature(function).parameters.items()
        if found.kind is inspect.Parameter.KEYWORD_ONLY
    }


def _argument(name: str, kind: object, default: object) -> dict[str, object]:
    found: dict[str, object] = _type(kind)
    if default is inspect.Parameter.empty:
        found["required"] = True
    elif default is not None:
        found["default"] = default
    return {**found, "no_log": True} if name in _SECRET else found


def _type(kind: object) -> dict[str, object]:
    """Ansible's words for a type; any mapping is a dict, whatever it holds: types hold what is in it."""
    if isinstance(kind, types.UnionType):
        [kind] = [each for each in typing.get_args(kind) if each is not type(None)]
    if typing.get_origin(kind) is list:
        [inner] = typing.get_args(kind)
        return {"type": "list", "elements": _type(inner)["type"]}
    return {"type": _PLAIN[kind] if isinstance(kind, type) and kind in _PLAIN else "dict"}
