"""The typed routes on their own, with views made for the purpose."""

import json
import logging
from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Self

import pytest
from flask import Flask
from flask.testing import FlaskClient
from pydantic import Field, model_validator

from api import problems
from api.merge_patch import MergePatch
from api.model import Model, Parameters
from api.typed import Failure, Reply, Routes


class Span(Model):
    low: int
    high: int = 10
    label: str = Field("", alias="the-label")

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.low > self.high:
            raise ValueError("low is above high")
        return self


class Loose(Parameters):
    tag: list[str] = Field([])
    size: float = 1


class Strict(Parameters):
    token: str = Field(alias="X-Token")


class TooSoonError(Exception):
    pass


def client_of(register: Callable[[Routes], object]) -> FlaskClient:
    routes = Routes("test", failures={TooSoonError: Failure(425)})
    register(routes)
    app = Flask("test")
    problems.register(app)
    routes.register(app)
    return app.test_client()


def test_everything_that_a_view_can_take() -> None:
    def register(routes: Routes) -> None:
        @routes.post("/spans/<int:number>/<name>")
        def create(
            name: Annotated[str, Field(max_length=3)], number: int, query: Loose, headers: Strict, body: Span
        ) -> Span:
            return Span(low=number, high=body.high, **{"the-label": f"{name} {query.tag} {query.size} {headers.token}"})

    answer = client_of(register).post(
        "/spans/7/abc?tag=a&tag=b&size=2.5", json={"low": 1, "high": 9}, headers={"X-Token": "t"}
    )
    assert answer.status_code == 201
    assert answer.json == {"low": 7, "high": 9, "the-label": "abc ['a', 'b'] 2.5 t"}


def test_mistakes_of_all_places_are_named_together() -> None:
    def register(routes: Routes) -> None:
        @routes.post("/spans/<int:number>")
        def create(number: Annotated[int, Field(lt=5)], query: Loose, headers: Strict, body: list[Span]) -> None:
            raise AssertionError

    body = [{"low": 1}, {"low": 11}, {"low": 1, "a/b~c": 2}]
    answer = client_of(register).post("/spans/9?size=big", json=body)
    assert answer.status_code == 422
    assert [(error["in"], error["pointer"]) for error in answer.get_json()["errors"]] == [
        ("path", "number"),
        ("query", "size"),
        ("header", "X-Token"),
        ("body", "/1"),
        ("body", "/2/a~1b~0c"),
    ]


@pytest.mark.parametrize(
    "wrong",
    [
        Span.model_construct(low="text"),  # type: ignore[arg-type]
        Span.model_construct(low=5, high=1),
        {"low": "5"},
        {"low": 1, "more": 2},
        None,
        Reply(None),
    ],
    ids=repr,
)
def test_response_that_does_not_fit_its_model_is_logged_and_never_sent(
    wrong: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def register(routes: Routes) -> None:
        @routes.get("/span")
        def read() -> Span:
            return wrong  # type: ignore[no-any-return]

    answer = client_of(register).get("/span")
    assert (answer.status_code, answer.mimetype) == (500, "application/problem+json")
    assert answer.get_json()["detail"] == "The fault is ours; it was logged under this request id."
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert caplog.records[0].exc_info


def test_body_from_a_view_that_declares_none_is_our_fault() -> None:
    def register(routes: Routes) -> None:
        @routes.delete("/span")
        def remove() -> None:
            return {"more": 1}  # type: ignore[return-value]

    assert client_of(register).delete("/span").status_code == 500


def test_failure_without_a_text_speaks_in_the_words_of_its_exception() -> None:
    def register(routes: Routes) -> None:
        @routes.get("/soon", TooSoonError)
        def soon() -> None:
            raise TooSoonError("come back on Monday")

        @routes.get("/undeclared")
        def undeclared() -> None:
            raise TooSoonError("come back on Monday")

    client = client_of(register)
    answer = client.get("/soon")
    assert (answer.status_code, answer.get_json()["detail"]) == (425, "come back on Monday")
    assert client.get("/undeclared").status_code == 500


def test_reply_can_say_status_and_headers() -> None:
    def register(routes: Routes) -> None:
        @routes.get("/span")
        def read() -> Reply[Span]:
            return Reply(Span(low=1), 203, {"X-More": "yes"})

    answer = client_of(register).get("/span")
    assert (answer.status_code, answer.headers["X-More"]) == (203, "yes")


def test_view_that_asks_for_what_nobody_gives_is_refused_at_start() -> None:
    routes = Routes("test")
    with pytest.raises(TypeError, match=r"read: user is neither in /span nor query, headers or body"):

        @routes.get("/span")
        def read(user: str) -> Span:
            raise AssertionError


def test_missing_header_can_have_a_status_of_its_own() -> None:
    class Paid(Parameters):
        missing: ClassVar[int | None] = 402
        ticket: int = Field(alias="X-Ticket")

    def register(routes: Routes) -> None:
        @routes.get("/show")
        def show(headers: Paid) -> None:
            pass

    client = client_of(register)
    assert client.get("/show").status_code == 402
    assert client.get("/show", headers={"X-Ticket": "x"}).status_code == 422
    assert client.get("/show", headers={"X-Ticket": "1"}).status_code == 200


def test_patch_is_checked_as_a_whole_when_it_is_applied() -> None:
    def register(routes: Routes) -> None:
        @routes.patch("/span")
        def change(body: MergePatch[Span]) -> Span:
            return body.apply(Span(low=5, high=9))

    client = client_of(register)
    assert client.patch("/span", json={"low": 7}).get_json()["low"] == 7
    answer = client.patch("/span", json={"high": 1})
    assert (answer.status_code, answer.get_json()["errors"][0]["detail"]) == (422, "Value error, low is above high")


def test_redirects_of_flask_stay_what_they_are() -> None:
    def register(routes: Routes) -> None:
        @routes.get("/spans/")
        def spans() -> None:
            raise AssertionError

    answer = client_of(register).get("/spans")
    assert (answer.status_code, answer.headers["Location"]) == (308, "http://localhost/spans/")


def test_patch_of_a_nested_model_is_refused_at_start() -> None:
    class Outer(Model):
        inner: Span

    routes = Routes("test")
    with pytest.raises(TypeError, match=r"Outer\.inner is a model"):

        @routes.patch("/outer")
        def change(body: MergePatch[Outer]) -> None:
            raise AssertionError


@pytest.mark.parametrize("body", [b"NaN", b'{"low": 1, "low": Infinity}', b"[1,]", b'{"low": 1} x', b"\x00"])
def test_what_is_no_json_is_400_or_422(body: bytes) -> None:
    def register(routes: Routes) -> None:
        @routes.post("/span")
        def create(body: Span) -> Span:
            raise AssertionError

    answer = client_of(register).post("/span", data=body, content_type="application/json")
    assert answer.status_code in {400, 422}
    assert json.loads(answer.data)["status"] == answer.status_code
