"""The bases of all models that travel over HTTP."""

from typing import Annotated, ClassVar

from pydantic import BaseModel, BeforeValidator, ConfigDict


def _integral(value: object) -> object:
    return int(value) if isinstance(value, float) and value.is_integer() else value


# To JSON Schema 5.0 is an integer, as it is to JSON, which knows one kind of number only.
Integer = Annotated[int, BeforeValidator(_integral)]


class Model(BaseModel):
    """Base of bodies: no unknown key, no guessed type. An instance is checked again before it is sent."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, revalidate_instances="always")


class Parameters(BaseModel):
    """Base of query and header models. Everything arrives as text, so numbers are read from text."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    missing: ClassVar[int | None] = None
    """Status for a required one that is missing, where HTTP has a better one than 422."""
