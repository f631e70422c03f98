import json
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import text
from werkzeug.test import TestResponse

from api.config import Loaded, load
from api.domain.items import new_id
from conftest import database_of

HAMMER = {"name": "hammer", "kind": "tool", "quantity": 3, "tags": ["steel"], "note": "heavy\nold"}


def create(client: FlaskClient, **changes: Any) -> TestResponse:
    response = client.post("/items", json=HAMMER | changes)
    assert response.status_code == 201, response.text
    return response


def test_created_item_is_where_its_location_says(client: FlaskClient) -> None:
    created = create(client)
    item = created.get_json()
    assert item == HAMMER | {key: item[key] for key in ("id", "created_at", "updated_at")} | {"version": 1}
    read = client.get(created.headers["Location"])
    assert (read.json, read.headers["ETag"]) == (item, '"1"')
    assert read.get_json()["created_at"].endswith("Z")


def test_defaults_fill_what_the_body_leaves_out(client: FlaskClient) -> None:
    item = client.post("/items", json={"name": "nail", "kind": "part"}).get_json()
    assert (item["quantity"], item["tags"], item["note"]) == (0, [], "")


def test_each_mistake_of_a_body_is_named_with_its_place(client: FlaskClient) -> None:
    body = {"name": "", "kind": "toy", "quantity": "3", "tags": ["Ä", "ok"], "colour": "red", "note": "\0"}
    response = client.post("/items", json=body)
    assert (response.status_code, response.mimetype) == (422, "application/problem+json")
    assert {(error["in"], error["pointer"]) for error in response.get_json()["errors"]} == {
        ("body", pointer) for pointer in ("/name", "/kind", "/quantity", "/tags/0", "/colour", "/note")
    }


def test_whole_number_written_as_a_fraction_is_a_whole_number(client: FlaskClient) -> None:
    assert create(client, quantity=5.0).get_json()["quantity"] == 5
    assert client.post("/items", json=HAMMER | {"name": "saw", "quantity": 5.5}).status_code == 422


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        (b"{", {"Content-Type": "application/json"}, 400),
        (b"\xff", {"Content-Type": "application/json"}, 400),
        (b"", {"Content-Type": "application/json"}, 400),
        (b'"text"', {"Content-Type": "application/json"}, 422),
        (json.dumps(HAMMER).encode(), {"Content-Type": "application/json; charset=utf-8"}, 201),
        (json.dumps(HAMMER).encode(), {"Content-Type": "text/plain"}, 415),
        (json.dumps(HAMMER).encode(), {}, 415),
        (b"x", {"Content-Type": "application/json", "Content-Encoding": "gzip"}, 415),
        (b" " * 65_537, {"Content-Type": "application/json"}, 413),
        (json.dumps(HAMMER).encode(), {"Content-Type": "application/json", "Accept": "text/html"}, 406),
        (json.dumps(HAMMER).encode(), {"Content-Type": "application/json", "Accept": "text/*, application/*"}, 201),
    ],
)
def test_body_that_cannot_be_taken(client: FlaskClient, body: bytes, headers: dict[str, str], status: int) -> None:
    response = client.post("/items", data=body, headers=headers)
    assert response.status_code == status, response.text
    assert response.mimetype == ("application/json" if status == 201 else "application/problem+json")


def test_second_item_of_a_name_is_refused(client: FlaskClient) -> None:
    create(client)
    response = client.post("/items", json=HAMMER)
    assert (response.status_code, response.get_json()["detail"]) == (409, "Another item has this name.")


@pytest.mark.parametrize("method", ["get", "put", "patch", "delete"])
def test_unknown_and_malformed_ids(client: FlaskClient, method: str) -> None:
    arguments: dict[str, Any] = {"headers": {"If-Match": "*"}}
    if method in {"put", "patch"}:
        arguments["json"] = HAMMER
    assert getattr(client, method)(f"/items/{uuid4()}", **arguments).status_code == 404
    malformed = getattr(client, method)("/items/7", **arguments)
    assert (malformed.status_code, malformed.get_json()["errors"][0]["pointer"]) == (422, "item_id")


def test_method_that_does_not_exist_is_told_which_do(client: FlaskClient) -> None:
    response = client.put("/items", json=HAMMER)
    assert (response.status_code, response.mimetype) == (405, "application/problem+json")
    assert set(response.headers["Allow"].split(", ")) == {"GET", "HEAD", "OPTIONS", "POST"}


def test_unchanged_item_is_not_sent_again(client: FlaskClient) -> None:
    place = create(client).headers["Location"]
    for etag in ('"1"', 'W/"1"', '"0", "1"', "*"):
        again = client.get(place, headers={"If-None-Match": etag})
        assert (again.status_code, again.data, again.headers["ETag"]) == (304, b"", '"1"')
    assert client.get(place, headers={"If-None-Match": '"2"'}).status_code == 200
    assert client.get(place, headers={"If-None-Match": "nonsense"}).status_code == 200


def test_replacing_puts_what_is_left_out_back_to_its_default(client: FlaskClient) -> None:
    place = create(client).headers["Location"]
    replaced = client.put(place, json={"name": "mallet", "kind": "tool"}, headers={"If-Match": '"1"'})
    assert (replaced.get_json()["name"], replaced.get_json()["quantity"], replaced.headers["ETag"]) == (
        "mallet",
        0,
        '"2"',
    )
    assert client.get(place).json == replaced.json


def test_replacing_with_the_same_changes_nothing(client: FlaskClient) -> None:
    created = create(client)
    same = client.put(created.headers["Location"], json=HAMMER, headers={"If-Match": '"1"'})
    assert (same.json, same.headers["ETag"]) == (created.json, '"1"')


def test_patch_sets_resets_and_leaves(client: FlaskClient) -> None:
    place = create(client).headers["Location"]
    for media_type in ("application/merge-patch+json", "application/json"):
        patched = client.patch(
            place,
            data=json.dumps({"quantity": 9, "note": None}),
            headers={"If-Match": "*", "Content-Type": media_type},
        )
        assert patched.status_code == 200, patched.text
        assert [patched.get_json()[key] for key in ("quantity", "note", "tags")] == [9, "", ["steel"]]


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [({"name": None}, "/name"), ({"colour": 1}, "/colour"), ({"quantity": -1}, "/quantity"), ([], "")],
)
def test_patch_that_does_not_fit_is_refused_before_anything_else(
    client: FlaskClient, changes: Any, pointer: str
) -> None:
    place = create(client).headers["Location"]
    response = client.patch(place, json=changes, headers={"If-Match": '"77"'})
    assert (response.status_code, response.get_json()["errors"][0]["pointer"]) == (422, pointer)


@pytest.mark.parametrize("method", ["put", "patch", "delete"])
def test_change_without_knowing_the_version_is_refused(client: FlaskClient, method: str) -> None:
    place = create(client).headers["Location"]
    body = {} if method == "delete" else {"json": HAMMER}
    assert getattr(client, method)(place, **body).status_code == 428
    for etag in ('"2"', '""', '"x"', f'"{"9" * 18}"'):
        assert getattr(client, method)(place, headers={"If-Match": etag}, **body).status_code == 412
    malformed = getattr(client, method)(place, headers={"If-Match": "1"}, **body)
    assert (malformed.status_code, malformed.get_json()["errors"][0]["in"]) == (422, "header")
    assert getattr(client, method)(place, headers={"If-Match": '"7", "1"'}, **body).status_code < 300


def test_rename_to_a_taken_name_is_refused(client: FlaskClient) -> None:
    create(client)
    place = create(client, name="saw").headers["Location"]
    assert client.patch(place, json={"name": "hammer"}, headers={"If-Match": "*"}).status_code == 409
    assert client.get(place).get_json()["name"] == "saw"


def test_deleted_item_is_gone(client: FlaskClient) -> None:
    place = create(client).headers["Location"]
    deleted = client.delete(place, headers={"If-Match": '"1"'})
    assert (deleted.status_code, deleted.data) == (204, b"")
    assert client.get(place).status_code == 404


def test_one_of_many_writers_wins(app: Flask) -> None:
    place = create(app.test_client()).headers["Location"]
    together = threading.Barrier(4)

    def change(number: int) -> int:
        together.wait()
        changed = app.test_client().patch(place, json={"quantity": number + 10}, headers={"If-Match": '"1"'})
        return changed.status_code

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(change, range(4))) == [200, 412, 412, 412]


def test_pages_show_each_item_once_in_order(client: FlaskClient) -> None:
    names = [f"item {number:02}" for number in range(7)]
    for name in names[:6]:
        create(client, name=name)
    seen: list[str] = []
    path: str | None = "/items?limit=3"
    while path:
        page = client.get(path)
        seen += [item["name"] for item in page.get_json()["items"]]
        if len(seen) == 3:
            create(client, name=names[6])  # what is created meanwhile comes later, and shifts nothing
        link = page.headers.get("Link")
        assert (link is None) == (page.get_json()["next"] is None)
        path = link.split(">")[0].removeprefix("<") if link else None
    assert seen == names


def test_filters_hold_on_the_following_pages(client: FlaskClient) -> None:
    for number in range(5):
        create(client, name=f"part {number}", kind="part", quantity=number)
        create(client, name=f"tool {number}", quantity=number)
    first = client.get("/items?kind=part&min_quantity=2&limit=2")
    assert [item["name"] for item in first.get_json()["items"]] == ["part 2", "part 3"]
    second = client.get(first.headers["Link"].split(">")[0].removeprefix("<"))
    assert [item["name"] for item in second.get_json()["items"]] == ["part 4"]
    assert second.get_json()["next"] is None


def test_page_size_comes_from_the_configuration(
    environ: dict[str, str], loaded: Loaded, make_app: Callable[[Loaded], Flask]
) -> None:
    client = make_app(load(environ | {"API_ITEMS__PAGE_SIZE": "2"})).test_client()
    for name in "abc":
        create(client, name=name)
    assert len(client.get("/items").get_json()["items"]) == 2


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("limit=0", "limit"),
        ("limit=x", "limit"),
        ("limit=1&limit=2", "limit"),
        ("cursor=!", "cursor"),
        ("sort=a", "sort"),
    ],
)
def test_mistake_in_a_query_is_named(client: FlaskClient, query: str, pointer: str) -> None:
    response = client.get(f"/items?{query}")
    assert (response.status_code, response.get_json()["errors"][0]["in"]) == (422, "query")
    assert response.get_json()["errors"][0]["pointer"] == pointer


def test_repeat_with_the_same_key_acts_once(client: FlaskClient) -> None:
    headers = {"Idempotency-Key": "a-1"}
    first = client.post("/items", json=HAMMER, headers=headers)
    client.patch(first.headers["Location"], json={"quantity": 99}, headers={"If-Match": "*"})
    again = client.post("/items", json=HAMMER, headers=headers)
    assert (again.status_code, again.json, again.headers["Location"]) == (201, first.json, first.headers["Location"])
    assert again.headers["Idempotency-Replayed"] == "true"
    assert "Idempotency-Replayed" not in first.headers
    other = client.post("/items", json=HAMMER | {"name": "saw"}, headers=headers)
    assert (other.status_code, len(client.get("/items").get_json()["items"])) == (409, 1)


def test_failed_creation_leaves_its_key_free(client: FlaskClient) -> None:
    create(client)
    headers = {"Idempotency-Key": "a-1"}
    assert client.post("/items", json=HAMMER, headers=headers).status_code == 409
    assert client.post("/items", json=HAMMER | {"name": "saw"}, headers=headers).status_code == 201


def test_twins_sent_at_once_get_one_answer(app: Flask) -> None:
    together = threading.Barrier(4)

    def post(_: int) -> tuple[int, str]:
        together.wait()
        answer = app.test_client().post("/items", json=HAMMER, headers={"Idempotency-Key": "twin"})
        return answer.status_code, answer.get_json()["id"]

    with ThreadPoolExecutor(4) as pool:
        answers = set(pool.map(post, range(4)))
    assert len(answers) == 1
    assert {status for status, _ in answers} == {201}


def test_key_is_forgotten_after_its_time(app: Flask, client: FlaskClient) -> None:
    headers = {"Idempotency-Key": "a-1"}
    client.post("/items", json=HAMMER, headers=headers)
    with database_of(app).write() as session:
        session.execute(text("UPDATE idempotency SET created_at = '2020-01-01 00:00:00'"))
    assert client.post("/items", json=HAMMER | {"name": "saw"}, headers=headers).status_code == 201


def test_ids_sort_by_time_of_creation() -> None:
    ids = [new_id() for _ in range(3)]
    assert {(one.version, one.variant) for one in ids} == {(7, "specified in RFC 4122")}
    assert ids[0].int >> 80 <= ids[1].int >> 80 <= ids[2].int >> 80
