"""Failures as `application/problem+json` (RFC 9457)."""

from collections.abc import Iterator
from typing import Literal

from flask import Flask, Response
from flask.typing import ResponseReturnValue
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from werkzeug.exceptions import HTTPException
from werkzeug.http import HTTP_STATUS_CODES

from api import context
from api.database import UnavailableError
from api.merge_patch import PatchError

MEDIA_TYPE = "application/problem+json"

Where = Literal["path", "query", "header", "body"]


class Mistake(BaseModel):
    """One mistake of the caller and its place in the request."""

    model_config = ConfigDict(serialize_by_alias=True, validate_by_name=True)

    where: Where = Field(alias="in")
    pointer: str = Field(description="JSON pointer (RFC 6901) in a body; the name of a parameter or header elsewhere.")
    detail: str


class Problem(BaseModel):
    """Why a request failed."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str | None = None
    request_id: str | None = None
    errors: list[Mistake] | None = None


class ApiError(Exception):
    """Ends the request with a problem. `detail` is read by the caller; it never holds what the caller must not know."""

    def __init__(
        self,
        status: int,
        detail: str | None = None,
        *,
        errors: list[Mistake] | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.errors = errors
        self.headers = headers or {}


def respond(error: ApiError) -> Response:
    """Turn `error` into its response."""
    request = context.current.get()
    problem = Problem(
        title=HTTP_STATUS_CODES[error.status],
        status=error.status,
        detail=error.detail,
        request_id=request.request_id if request else None,
        errors=error.errors,
    )
    body = problem.model_dump_json(exclude_none=True)
    return Response(body, error.status, error.headers, content_type=MEDIA_TYPE)


def mistakes(error: ValidationError, where: Where) -> Iterator[Mistake]:
    """Each mistake with its place, without the value: the caller knows it, and nobody else need."""
    for found in error.errors(include_url=False, include_context=False, include_input=False):
        parts = [str(part).replace("~", "~0").replace("/", "~1") for part in found["loc"]]
        pointer = "".join(f"/{part}" for part in parts) if where == "body" else ".".join(parts)
        yield Mistake(where=where, pointer=pointer, detail=found["msg"])


def unfit(errors: list[Mistake]) -> ApiError:
    """The caller's request does not fit the contract."""
    return ApiError(422, "The request does not fit the contract; errors says where.", errors=errors)


def register(app: Flask) -> None:
    """Answer every failure of `app` with a problem."""

    @app.errorhandler(ApiError)
    def own(error: ApiError) -> Response:
        return respond(error)

    @app.errorhandler(HTTPException)
    def of_werkzeug(error: HTTPException) -> ResponseReturnValue:
        if error.code is None or error.code < 400:
            return error
        headers = {name: value for name, value in error.get_headers() if name != "Content-Type"}
        return respond(ApiError(error.code, error.description, headers=headers))

    @app.errorhandler(context.DeadlineExceededError)
    def too_late(_: context.DeadlineExceededError) -> Response:
        return respond(ApiError(503, "The request took longer than its deadline allows.", headers={"Retry-After": "1"}))

    @app.errorhandler(PatchError)
    def of_patch(error: PatchError) -> Response:
        return respond(unfit(list(mistakes(error.cause, "body"))))

    @app.errorhandler(UnavailableError)
    def unavailable(error: UnavailableError) -> Response:
        # One that was refused without asking the database has nothing to tell that the log does not hold already.
        app.logger.error("database unavailable", exc_info=error if error.__cause__ else None)
        return respond(ApiError(503, "The database does not answer.", headers={"Retry-After": "5"}))

    @app.errorhandler(Exception)
    def of_ours(error: Exception) -> Response:
        app.logger.error("request failed", exc_info=error)
        return respond(ApiError(500, "The fault is ours; it was logged under this request id."))
