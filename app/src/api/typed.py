"""Typed routes: a view's annotations are its contract.

    routes = Routes("items", prefix="/items")

    @routes.get("/<item_id>", NotFoundError)
    def read_item(item_id: ItemId, headers: Conditional) -> Reply[Item]:
        '''Read one item.'''

Parameters named in the rule come from the path; `query`, `headers` and `body` are models (or a MergePatch) filled from
there. What does not fit is answered with 422 and the place of each mistake. The return annotation is the response's
model: a value that does not fit it is a fault of ours, so it is logged and answered with 500, never sent. OpenAPI is
derived from the same contract (openapi.py).
"""

import inspect
import re
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from types import NoneType
from typing import Any, Generic, TypeVar

from flask import Flask, Response, request
from pydantic import TypeAdapter, ValidationError, create_model
from werkzeug.datastructures import MIMEAccept
from werkzeug.http import parse_accept_header

from api.edge import ROUTE
from api.lean import Whole
from api.merge_patch import MergePatch
from api.model import Parameters
from api.problems import ApiError, Mistake, Where, mistakes, unfit

JSON = "application/json"

View = TypeVar("View", bound=Callable[..., object])
Body = TypeVar("Body")


@dataclass(frozen=True)
class Reply(Generic[Body]):
    """A response with more than a body. `body` is None for 204 and 304 only; `status` defaults to the route's."""

    body: Body | None
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Failure:
    """How an exception of the domain is answered; without `detail`, in the exception's own words."""

    status: int
    detail: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


Reader = Callable[[Mapping[str, str]], object]


@dataclass(frozen=True)
class Operation:
    """One route with its whole contract, as the view's signature states it."""

    method: str
    rule: str
    view: Callable[..., object]
    status: int
    failures: Mapping[type[Exception], Failure]
    tag: str
    path: Mapping[str, Any]
    query: type[Parameters] | None
    headers: type[Parameters] | None
    body: TypeAdapter[Any] | None
    media_types: tuple[str, ...]
    response: TypeAdapter[Any] | None

    @property
    def template(self) -> str:
        """The path as OpenAPI and the metrics write it: `/items/{item_id}`."""
        return re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", self.rule)


class Routes:
    """The routes of one resource."""

    def __init__(self, tag: str, prefix: str = "", failures: Mapping[type[Exception], Failure] | None = None) -> None:
        self._tag = tag
        self._prefix = prefix
        self._failures = failures or {}
        self.operations: list[Operation] = []

    def get(self, rule: str, *raises: type[Exception]) -> Callable[[View], View]:
        """Route GET and HEAD to a view. `raises`: those failures of this resource that the view may end with."""
        return self._add("GET", rule, 200, raises)

    def post(self, rule: str, *raises: type[Exception]) -> Callable[[View], View]:
        """Route POST to a view that creates something."""
        return self._add("POST", rule, 201, raises)

    def put(self, rule: str, *raises: type[Exception]) -> Callable[[View], View]:
        """Route PUT to a view."""
        return self._add("PUT", rule, 200, raises)

    def patch(self, rule: str, *raises: type[Exception]) -> Callable[[View], View]:
        """Route PATCH to a view."""
        return self._add("PATCH", rule, 200, raises)

    def delete(self, rule: str, *raises: type[Exception]) -> Callable[[View], View]:
        """Route DELETE to a view that returns nothing."""
        return self._add("DELETE", rule, 204, raises)

    def _add(self, method: str, rule: str, status: int, raises: tuple[type[Exception], ...]) -> Callable[[View], View]:
        failures = {kind: self._failures[kind] for kind in raises}

        def decorate(view: View) -> View:
            operation = _operation(view, method, self._prefix + rule, status=status, failures=failures, tag=self._tag)
            self.operations.append(operation)
            return view

        return decorate

    def register(self, app: Flask) -> None:
        """Put the routes into `app`."""
        for operation in self.operations:
            # With a dot in it Flask would take it apart, looking for blueprints, at each request.
            name = f"{self._tag}:{operation.view.__name__}"
            app.add_url_rule(operation.rule, name, _handler(operation), methods=[operation.method])


def _operation(
    view: Callable[..., object],
    method: str,
    rule: str,
    *,
    status: int,
    failures: Mapping[type[Exception], Failure],
    tag: str,
) -> Operation:
    hints = typing.get_type_hints(view, include_extras=True)
    returned = hints.pop("return")
    if typing.get_origin(returned) is Reply:
        returned = typing.get_args(returned)[0]
    in_path = re.findall(r"<(?:\w+:)?(\w+)>", rule)
    parameters = list(inspect.signature(view).parameters)
    if unknown := set(parameters) - {*in_path, "query", "headers", "body"}:
        raise TypeError(
            f"{view.__name__}: {', '.join(sorted(unknown))} is neither in {rule} nor query, headers or body"
        )
    body = hints.get("body")
    patched = typing.get_origin(body) is MergePatch
    return Operation(
        method=method,
        rule=rule,
        view=view,
        status=status,
        failures=failures,
        tag=tag,
        path={name: hints[name] for name in in_path},
        query=hints.get("query"),
        headers=hints.get("headers"),
        body=TypeAdapter(body) if body else None,
        media_types=("application/merge-patch+json", JSON) if patched else (JSON,),
        response=None if returned in {None, NoneType} else TypeAdapter(returned),
    )


def _handler(operation: Operation) -> Callable[..., Response]:
    """The Flask view: read the inputs, call, check and write the output. What can be decided once is decided here."""
    template, view, success = operation.template, operation.view, operation.status
    readers = list(_readers(operation))
    failures, expected = operation.failures, tuple(operation.failures)
    response = operation.response
    validate = response.validator.validate_python if response else None
    to_json = response.serializer.to_json if response else None

    def handle(**path: str) -> Response:
        environ = request.environ
        environ[ROUTE] = template
        if to_json and "HTTP_ACCEPT" in environ and not _accepts_json(environ["HTTP_ACCEPT"]):
            raise ApiError(406, f"This is only available as {JSON}.")
        inputs = {}
        errors: list[Mistake] = []
        for name, where, read in readers:
            try:
                inputs[name] = read(path)
            except ValidationError as error:
                errors += mistakes(error, where)
        if errors:
            raise unfit(errors)
        try:
            result = view(**inputs)
        except expected as error:
            failure = failures[type(error)]
            raise ApiError(failure.status, failure.detail or str(error), headers=dict(failure.headers)) from None
        headers: Mapping[str, str] | None = None
        status = success
        if isinstance(result, Reply):
            headers, status, result = result.headers, result.status or success, result.body
        if result is None and (to_json is None or status == 304):
            return Response(status=status, headers=headers)
        if to_json is None or validate is None:
            raise TypeError(f"{view.__name__} returned a body although it declares none")
        # An instance is checked by its fields' names, a mapping by what the schema calls them, which is what is sent.
        checked = validate(result, by_name=True, by_alias=True)
        # What has headers may have a Location, which Werkzeug looks at once more.
        return (Response if headers else Whole)(to_json(checked, by_alias=True), status, headers, content_type=JSON)

    return handle


def _readers(operation: Operation) -> Iterator[tuple[str, Where, Reader]]:
    for name, kind in operation.path.items():
        yield name, "path", _path_reader(name, kind)
    if operation.query:
        yield "query", "query", _query_reader(operation.query)
    if operation.headers:
        yield "headers", "header", _header_reader(operation.headers)
    if operation.body:
        yield "body", "body", _body_reader(operation.body, operation.media_types)


def _path_reader(name: str, kind: Any) -> Reader:
    # In a separate model, so that a mistake names the parameter.
    model = create_model("Path", **{name: kind})
    validate = model.__pydantic_validator__.validate_python

    def read(path: Mapping[str, str]) -> object:
        return getattr(validate({name: path[name]}), name)

    return read


def _query_reader(model: type[Parameters]) -> Reader:
    validate = model.__pydantic_validator__.validate_python

    def read(_: Mapping[str, str]) -> object:
        if not request.query_string:
            return validate({})
        # A parameter that is given twice stays a list, which no scalar field takes.
        return validate({name: found if len(found) > 1 else found[0] for name, found in request.args.lists()})

    return read


def _header_reader(model: type[Parameters]) -> Reader:
    validate = model.__pydantic_validator__.validate_python
    names = {info.alias or name: name for name, info in model.model_fields.items()}
    wanted = [(f"HTTP_{alias.upper().replace('-', '_')}", alias) for alias in names]

    def read(_: Mapping[str, str]) -> object:
        environ = request.environ
        try:
            return validate({alias: environ[key] for key, alias in wanted if key in environ})
        except ValidationError as error:
            if model.missing and (
                absent := [found["loc"][0] for found in error.errors() if found["type"] == "missing"]
            ):
                raise ApiError(model.missing, f"{absent[0]} is required.") from None
            raise

    return read


def _body_reader(adapter: TypeAdapter[Any], media_types: tuple[str, ...]) -> Reader:
    validate = adapter.validator.validate_json

    def read(_: Mapping[str, str]) -> object:
        environ = request.environ
        if environ.get("CONTENT_TYPE") not in media_types and request.mimetype not in media_types:
            raise ApiError(415, f"Expected {' or '.join(media_types)}.", headers={"Accept": ", ".join(media_types)})
        if environ.get("HTTP_CONTENT_ENCODING", "identity") != "identity":
            raise ApiError(415, "Compressed bodies are not read.", headers={"Accept-Encoding": "identity"})
        try:
            return validate(request.get_data(cache=False))
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False, include_input=False)[0]
            if first["type"] == "json_invalid":
                raise ApiError(400, f"The body is no JSON: {first['msg'].removeprefix('Invalid JSON: ')}.") from None
            raise

    return read


@lru_cache(maxsize=128)
def _accepts_json(accept: str) -> bool:
    return bool(parse_accept_header(accept, MIMEAccept).best_match([JSON]))
