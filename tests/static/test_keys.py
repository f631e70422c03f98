"""Every key of an app's entry has an effect: something outside of the model reads it, and a release carries it or a run does."""

import re
from collections.abc import Iterator

import pytest
from project import files_of
from pydantic import BaseModel

from praetor.inventory.model import ALWAYS, BESIDES, App

READERS = (
    "src/praetor/[!i]*/**/*.py",
    "plugins/**/*.py",
    "playbooks/**/*.yml",
    "roles/*/templates/*",
    "roles/*/tasks/*.yml",
    "container/*.py",
)
TEXT = "\n".join(path.read_text(encoding="utf-8") for path in files_of(*READERS))


def leaves(model: type[BaseModel], above: str = "") -> Iterator[str]:
    """Name the keys of a model that have no keys below them, with those above them."""
    for name, field in model.model_fields.items():
        inner = [kind for kind in _kinds(field.annotation) if isinstance(kind, type) and issubclass(kind, BaseModel)]
        if inner:
            yield from leaves(inner[0], f"{above}{name}.")
        else:
            yield f"{above}{name}"


def _kinds(annotation: object) -> Iterator[object]:
    yield annotation
    for argument in getattr(annotation, "__args__", ()):
        yield from _kinds(argument)


def is_read(key: str) -> bool:
    """Tell whether a key is used as a string or as an attribute."""
    return bool(re.search(rf"""["'\.]{re.escape(key)}\b""", TEXT))


@pytest.mark.parametrize("path", list(leaves(App)))
def test_a_key_is_read_by_something(path: str) -> None:
    assert is_read(path.rpartition(".")[2])


def test_a_key_that_nothing_reads_would_be_found() -> None:
    assert not is_read("a_key_that_nothing_reads")


def models(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """Return a model and those of its parts."""
    yield model
    for field in model.model_fields.values():
        for kind in _kinds(field.annotation):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from models(kind)


def test_what_is_said_of_keys_is_said_of_keys_that_there_are() -> None:
    fields = {model.__name__: model.model_fields.keys() for model in models(App)}
    assert fields["App"] >= BESIDES
    assert {part: keys - fields[part] for part, keys in ALWAYS.items() if keys - fields[part]} == {}
    assert not ALWAYS["App"] & BESIDES
