"""JSON Merge Patch (RFC 7396) that ends in a valid model or in none."""

import json
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationError
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

M = TypeVar("M", bound=BaseModel)


class PatchError(Exception):
    """What came of the changes is not valid; `cause` says where."""

    def __init__(self, cause: ValidationError) -> None:
        super().__init__(str(cause))
        self.cause = cause


class MergePatch(Generic[M]):
    """Changes to an `M`: a member sets a field, null puts it back to its default, what is absent stays."""

    def __init__(self, changes: dict[str, Any]) -> None:
        self._changes = changes

    def apply(self, current: M) -> M:
        """`current` with the changes. Raises PatchError if the result is no `M`."""
        merged = merge(current.model_dump(mode="json"), self._changes)
        try:
            return type(current).model_validate_json(json.dumps(merged))
        except ValidationError as error:
            raise PatchError(error) from None

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Read a JSON object as it is; `apply` checks what comes of it."""
        model = source.__args__[0]
        keys = core_schema.dict_schema(core_schema.literal_schema(list(model.model_fields)), core_schema.any_schema())
        inner = handler.generate_schema(model)
        return core_schema.no_info_after_validator_function(cls, keys, metadata={"pydantic_js_functions": [
            lambda _, json_handler: _partial(inner, json_handler)
        ]})  # fmt: skip


def merge(target: Any, patch: Any) -> Any:
    """The algorithm of RFC 7396, section 2."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge(result.get(key), value)
    return result


def _partial(model: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
    """The model's own schema with nothing required, and null where null means the default."""
    full = handler.resolve_ref_schema(handler(model))
    required = full.get("required", [])
    properties = {
        name: schema if name in required else {"anyOf": [schema, {"type": "null"}]}
        for name, schema in full["properties"].items()
    }
    kept = {key: value for key, value in full.items() if key in {"additionalProperties", "type"}}
    return kept | {"properties": properties, "title": f"{full['title']} changes"}
