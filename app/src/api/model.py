"""The bases of all models that travel over HTTP."""

from pydantic import BaseModel, ConfigDict


class Model(BaseModel):
    """Base of bodies: no unknown key, no guessed type. An instance is checked again before it is sent."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, revalidate_instances="always")


class Parameters(BaseModel):
    """Base of query and header models. Everything arrives as text, so numbers are read from text."""

    model_config = ConfigDict(frozen=True, extra="forbid")
