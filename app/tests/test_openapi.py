import re
from typing import Any

from flask.testing import FlaskClient

from api.factory import ROUTES
from conftest import ROOT


def contract(client: FlaskClient) -> Any:
    return client.get("/openapi.json").get_json()


def test_every_typed_route_is_described(client: FlaskClient) -> None:
    paths = contract(client)["paths"]
    described = {(path, method.upper()) for path, methods in paths.items() for method in methods}
    assert described == {(one.template, one.method) for routes in ROUTES for one in routes.operations}


def test_every_route_of_the_app_is_described_but_the_description_itself(client: FlaskClient) -> None:
    rules = {re.sub(r"<(\w+)>", r"{\1}", rule.rule) for rule in client.application.url_map.iter_rules()}
    assert rules - set(contract(client)["paths"]) == {
        "/openapi.json",
        "/docs",
        "/docs/docs.css",
        "/docs/docs.js",
        "/docs/icon.svg",
    }


def test_contract_of_a_change(client: FlaskClient) -> None:
    found = contract(client)
    patch = found["paths"]["/items/{item_id}"]["patch"]
    assert found["openapi"] == "3.1.0"
    assert set(patch["responses"]) == {"200", "400", "404", "406", "409", "412", "413", "415", "422", "428", "default"}
    assert [(one["name"], one["in"], one["required"]) for one in patch["parameters"]] == [
        ("item_id", "path", True),
        ("If-Match", "header", True),
    ]
    assert set(patch["requestBody"]["content"]) == {"application/merge-patch+json", "application/json"}
    changes = found["components"]["schemas"]["ItemContentChanges"]
    assert "required" not in changes
    assert {"type": "null"} in changes["properties"]["note"]["anyOf"]
    assert changes["properties"]["name"]["type"] == "string"
    assert not any("default" in schema for schema in changes["properties"].values())


def test_parameters_of_a_list_have_their_limits_and_are_never_null(client: FlaskClient) -> None:
    listed = contract(client)["paths"]["/items"]["get"]["parameters"]
    schemas = {one["name"]: one["schema"] for one in listed}
    assert schemas["kind"] == {"$ref": "#/components/schemas/Kind"}
    assert schemas["min_quantity"] == {"type": "integer", "minimum": 0, "maximum": 1_000_000, "default": 0}
    assert "null" not in str(schemas)


def test_every_reference_leads_somewhere(client: FlaskClient) -> None:
    found = client.get("/openapi.json")
    names = set(re.findall(r'"#/components/schemas/(\w+)"', found.text))
    assert names == set(found.get_json()["components"]["schemas"])


def test_page_loads_only_what_is_served_here(client: FlaskClient) -> None:
    page = client.get("/docs")
    assert page.mimetype == "text/html"
    loaded = re.findall(r'(?:src|href)="([^"#]+)"', page.text)
    assert set(loaded) == {"docs/docs.css", "docs/docs.js", "openapi.json", "docs/icon.svg"}
    for path in loaded:
        assert client.get(f"/{path}").status_code == 200
    for file in (ROOT / "src/api/static").iterdir():
        text = file.read_text().replace('xmlns="http://www.w3.org/2000/svg"', "")  # a name, not an address
        assert not re.search(r"https?://|//\w+\.|@import|eval\(|innerHTML", text), file
    assert "<script>" not in page.text
    assert " style=" not in page.text


def test_page_is_not_sent_again_if_it_is_known(client: FlaskClient) -> None:
    etag = client.get("/docs").headers["ETag"]
    assert client.get("/docs", headers={"If-None-Match": etag}).status_code == 304


def test_description_can_be_switched_off(make_client: Any) -> None:
    client = make_client(API_HTTP__DOCS="false")
    assert {client.get(path).status_code for path in ("/docs", "/openapi.json", "/docs/docs.js")} == {404}
