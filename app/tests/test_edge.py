import re
from typing import Any

import pytest
from flask.testing import FlaskClient
from prometheus_client.parser import text_string_to_metric_families
from werkzeug.test import Client

from api import metrics
from api.edge import Edge


def counted(**labels: str) -> float:
    found = metrics.registry.get_sample_value("api_http_request_duration_seconds_count", labels)
    return found or 0


def routes() -> set[str]:
    families = text_string_to_metric_families(metrics.text().decode())
    return {sample.labels["route"] for family in families for sample in family.samples if "route" in sample.labels}


@pytest.mark.parametrize("sent", ["abcdefgh", "A1._-" * 12])
def test_good_request_id_is_kept(client: FlaskClient, sent: str) -> None:
    assert client.get("/version", headers={"X-Request-ID": sent}).headers["X-Request-ID"] == sent


@pytest.mark.parametrize("sent", ["", "short", "a" * 65, "has spaces in it", 'quote"quote', "ümlaut-ümlaut"])
def test_bad_request_id_is_replaced(client: FlaskClient, sent: str) -> None:
    got = client.get("/version", headers={"X-Request-ID": sent}).headers["X-Request-ID"]
    assert re.fullmatch("[0-9a-f]{32}", got)


@pytest.mark.parametrize("path", ["/version", "/nowhere", "/items/x", "/docs", "/openapi.json"])
def test_security_headers_are_on_every_response(client: FlaskClient, path: str) -> None:
    headers = client.get(path).headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert "Set-Cookie" not in headers
    assert "Server" not in headers


def test_requests_are_counted_by_template(client: FlaskClient) -> None:
    labels = {"method": "GET", "route": "/items/{item_id}", "status": "404"}
    before = counted(**labels)
    for number in range(3):
        client.get(f"/items/01a203f5-2c75-75d8-9a23-85fc4241d86{number}")
    assert counted(**labels) == before + 3


def test_no_request_makes_a_label_of_its_own(client: FlaskClient) -> None:
    before = counted(method="other", route="unmatched", status="405")
    for number in range(5):
        client.get(f"/nowhere/{number}")
        client.open("/version", method=f"WORD{number}")
    assert counted(method="other", route="unmatched", status="405") == before + 5
    assert routes() <= {
        "/docs", "/docs/docs.css", "/docs/docs.js", "/docs/icon.svg", "/health/live", "/health/ready", "/items",
        "/items/{item_id}", "/openapi.json", "/version", "unmatched",
    }  # fmt: skip


def test_at_most_ten_buckets(client: FlaskClient) -> None:
    client.get("/version")
    families = {family.name: family for family in text_string_to_metric_families(metrics.text().decode())}
    samples = families["api_http_request_duration_seconds"].samples
    bounds = {sample.labels["le"] for sample in samples if sample.name.endswith("_bucket")}
    assert len(bounds) == 10


def test_build_info_says_what_runs(client: FlaskClient) -> None:
    families = {family.name: family for family in text_string_to_metric_families(metrics.text().decode())}
    found = [sample for sample in families["api_build_info"].samples if sample.labels["release"] == "1.0.0-test"]
    assert found[0].value == 1
    assert set(found[0].labels) == {"version", "release", "commit", "profile", "python"}


@pytest.mark.parametrize(("profile", "status"), [("dev", 200), ("staging", 404), ("prod", 404)])
def test_metrics_are_on_the_public_socket_in_development_only(make_client: Any, profile: str, status: int) -> None:
    assert make_client(APP_PROFILE=profile).get("/metrics").status_code == status


def test_crash_of_the_application_is_counted_as_500() -> None:
    seen: list[tuple[str, str, str, float]] = []

    def crash(*_: object) -> list[bytes]:
        raise ZeroDivisionError

    edge = Edge(crash, 1, lambda *found: seen.append(found))
    with pytest.raises(ZeroDivisionError):
        Client(edge).get("/")
    assert seen[0][:3] == ("GET", "unmatched", "500")
