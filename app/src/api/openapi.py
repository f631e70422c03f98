"""OpenAPI 3.1 from the typed routes; nothing in it is stated anywhere else."""

import inspect
import json
from collections.abc import Iterable, Iterator
from typing import Any, Literal

from pydantic import BaseModel, TypeAdapter
from pydantic.fields import FieldInfo
from werkzeug.http import HTTP_STATUS_CODES

from api.problems import MEDIA_TYPE, Problem
from api.typed import JSON, Operation

_REF = "#/components/schemas/{model}"

Schemas = dict[tuple[int, str], Any]


def document(title: str, version: str, operations: Iterable[Operation]) -> bytes:
    """The description of all `operations` as JSON."""
    listed = list(operations)
    wanted: list[tuple[tuple[int, str], Literal["validation", "serialization"], TypeAdapter[Any]]] = []
    for index, operation in enumerate(listed):
        for name, kind in operation.path.items():
            wanted.append(((index, f"path.{name}"), "validation", TypeAdapter(kind)))
        if operation.body:
            wanted.append(((index, "body"), "validation", operation.body))
        if operation.response:
            wanted.append(((index, "response"), "serialization", operation.response))
        for name, model in (("query", operation.query), ("header", operation.headers)):
            wanted += [((index, f"{name}.{field}"), "validation", adapter) for field, adapter in _fields(model)]
    wanted.append(((-1, "problem"), "serialization", TypeAdapter(Problem)))
    found, shared = TypeAdapter.json_schemas(wanted, ref_template=_REF)
    schemas: Schemas = {key: schema for (key, _), schema in found.items()}
    paths: dict[str, dict[str, Any]] = {}
    for index, operation in enumerate(listed):
        paths.setdefault(operation.template, {})[operation.method.lower()] = _describe(index, operation, schemas)
    return json.dumps(
        {
            "openapi": "3.1.0",
            "info": {"title": title, "version": version},
            "servers": [{"url": "/"}],
            "paths": paths,
            "components": {"schemas": shared["$defs"]},
        }
    ).encode()


def _fields(model: type[BaseModel] | None) -> Iterator[tuple[str, TypeAdapter[Any]]]:
    for name, info in (model.model_fields if model else {}).items():
        yield name, TypeAdapter(info.rebuild_annotation())


def _describe(index: int, operation: Operation, schemas: Schemas) -> dict[str, Any]:
    summary, _, description = (inspect.getdoc(operation.view) or "").partition("\n\n")
    found: dict[str, Any] = {
        "operationId": operation.view.__name__,
        "tags": [operation.tag],
        "summary": summary,
        "parameters": list(_parameters(index, operation, schemas)),
        "responses": dict(_responses(index, operation, schemas)),
    }
    if description:
        found["description"] = description
    if operation.body:
        content = {media_type: {"schema": schemas[index, "body"]} for media_type in operation.media_types}
        found["requestBody"] = {"required": True, "content": content}
    return found


def _parameters(index: int, operation: Operation, schemas: Schemas) -> Iterator[dict[str, Any]]:
    for name in operation.path:
        yield {"name": name, "in": "path", "required": True, "schema": schemas[index, f"path.{name}"]}
    for place, model in (("query", operation.query), ("header", operation.headers)):
        for field, info in (model.model_fields if model else {}).items():
            yield {
                "name": info.alias or field,
                "in": place,
                "required": info.is_required(),
                "description": info.description or "",
                "schema": _without_null(schemas[index, f"{place}.{field}"]) | _default(info),
            }


def _default(info: FieldInfo) -> dict[str, Any]:
    return {} if info.is_required() or info.default is None else {"default": info.default}


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """Text in a URL or header is absent or there, never null."""
    kinds = [kind for kind in schema.get("anyOf", []) if kind != {"type": "null"}]
    if not kinds:
        return schema
    return kinds[0] if len(kinds) == 1 else schema | {"anyOf": kinds}


def _responses(index: int, operation: Operation, schemas: Schemas) -> Iterator[tuple[str, Any]]:
    success: dict[str, Any] = {"description": HTTP_STATUS_CODES[operation.status]}
    if operation.response:
        success["content"] = {JSON: {"schema": schemas[index, "response"]}}
    yield str(operation.status), success
    if operation.headers and any(info.alias == "If-None-Match" for info in operation.headers.model_fields.values()):
        yield "304", {"description": HTTP_STATUS_CODES[304]}
    for status in sorted(_failures(operation)):
        yield str(status), _problem(HTTP_STATUS_CODES[status], schemas)
    yield "default", _problem("Any other failure", schemas)


def _failures(operation: Operation) -> set[int]:
    found = {failure.status for failure in operation.failures.values()}
    if operation.path or operation.query or operation.headers or operation.body:
        found.add(422)
    if operation.body:
        found |= {400, 413, 415}
    if operation.response:
        found.add(406)
    if operation.headers and operation.headers.missing:
        found.add(operation.headers.missing)
    return found


def _problem(description: str, schemas: Schemas) -> dict[str, Any]:
    return {"description": description, "content": {MEDIA_TYPE: {"schema": schemas[-1, "problem"]}}}
