"""JSON Merge Patch (RFC 7396) for flat models: checked field by field on arrival, as a whole when it is applied."""

from typing import Any, Generic, TypeVar

from pydantic import BaseModel, Field, GetCoreSchemaHandler, ValidationError, create_model
from pydantic_core import CoreSchema, core_schema

M = TypeVar("M", bound=BaseModel)


class PatchError(Exception):
    """What came of the changes is not valid; `cause` says where."""

    def __init__(self, cause: ValidationError) -> None:
        super().__init__(str(cause))
        self.cause = cause


class MergePatch(Generic[M]):
    """Changes to an `M`: a member sets a field, null puts it back to its default, what is absent stays."""

    def __init__(self, changes: BaseModel) -> None:
        self._changes = changes

    def apply(self, current: M) -> M:
        """`current` with the changes. Raises PatchError if they do not fit together."""
        values = {name: getattr(current, name) for name in type(current).model_fields}
        for name in self._changes.model_fields_set:
            value = getattr(self._changes, name)
            if value is None:
                del values[name]
            else:
                values[name] = value
        try:
            return type(current).model_validate(values, by_name=True, by_alias=False)
        except ValidationError as error:
            raise PatchError(error) from None

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Read a model with the fields of `M`, none of them required."""
        changes = _changes(source.__args__[0])
        return core_schema.no_info_after_validator_function(cls, handler.generate_schema(changes))


def _drop_default(schema: dict[str, Any]) -> None:
    schema.pop("default", None)


def _changes(model: type[BaseModel]) -> type[BaseModel]:
    fields: dict[str, Any] = {}
    for name, info in model.model_fields.items():
        if isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            raise TypeError(f"{model.__name__}.{name} is a model; RFC 7396 would merge it, which MergePatch does not")
        kind = info.rebuild_annotation()
        # What is absent stays as it is: the schema must not claim a default.
        optional = Field(None, alias=info.alias, description=info.description, json_schema_extra=_drop_default)
        fields[name] = (kind if info.is_required() else kind | None, optional)
    return create_model(f"{model.__name__}Changes", __config__=model.model_config, **fields)
