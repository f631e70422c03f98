"""Compares what an inventory says to roles with what these declare: once for each place where it is written, however many hosts it applies to."""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from ansible.inventory.manager import InventoryManager
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible.vars.plugins import get_vars_from_inventory_sources, get_vars_from_path

from .options import templates_in

ROLES = Path(__file__).resolve().parents[3] / "roles"
# As near as a slip of the pen: a variable of the inventory's own may well begin with a role's name.
_NEAR = 0.85


class Said(NamedTuple):
    """A variable in one place of an inventory."""

    name: str
    value: Any


def said(inventory: InventoryManager, loader: Any, playbooks: str) -> Iterator[Said]:
    """Every variable of an inventory, where it is written."""
    for each in [*inventory.groups.values(), *inventory.hosts.values()]:
        of_files = get_vars_from_inventory_sources(loader, inventory._sources, [each], "task")  # noqa: SLF001  it has no other way
        for found in (each.vars, of_files, get_vars_from_path(loader, playbooks, [each], "task")):
            yield from (Said(str(name), value) for name, value in found.items())


def declared(names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """The inputs of each role that one of the names could be for."""
    found: dict[str, dict[str, Any]] = {}
    known = set(names)
    for path in sorted(ROLES.glob("*/meta/argument_specs.yml")):
        if any(name.startswith(f"{path.parts[-3]}_") for name in known):
            for spec in yaml.load(path.read_text(encoding="utf-8"), yaml.CSafeLoader)["argument_specs"].values():
                found |= spec.get("options") or {}
    return found


def misspelt(names: Iterable[str], inputs: Iterable[str], values: Iterable[Any]) -> dict[str, str]:
    """Names that are not an input but almost one, unless a template of the inventory uses them."""
    inputs = sorted(inputs)
    near = {name: difflib.get_close_matches(name, inputs, n=1, cutoff=_NEAR) for name in names if name not in inputs}
    asked = templates_in(str(list(values))) if any(near.values()) else set()
    return {
        name: f"{name}: found an input that no role has, expected {found[0]}; a variable of your own needs another name"
        for name, found in near.items()
        if found and name not in asked
    }


def problem(name: str, option: Mapping[str, Any], value: Any, *, secret: bool) -> str:
    """What is wrong with a value that an inventory gives to a role, as Ansible would find it where the role begins; nothing if it is right."""
    plain = {key: inner for key, inner in option.items() if key not in {"options", "required"}}
    found = f"{name}: found {'a value that is not shown' if secret or option.get('no_log') else _short(value)}"
    if ArgumentSpecValidator({name: plain}).validate({name: value}).error_messages:
        choices = f": {', '.join(map(str, option['choices']))}" if "choices" in option else ""
        of = f" of {option['elements']}" if "elements" in option else ""
        return f"{found}, expected {option['type']}{of}{choices}"
    whole = ArgumentSpecValidator({name: {**option, "required": False}}).validate({name: value})
    if whole.error_messages:
        return f"{found}, expected what docs/reference/roles.md says: {'; '.join(whole.error_messages)}"
    return ""


def _short(value: Any) -> str:
    text = json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."
