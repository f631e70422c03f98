"""What a client of the apps sees, and what is logged about it."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import ssl
import time
from typing import TYPE_CHECKING, Any

import pytest
from client import Answer, Site, exchange
from hosts import public, served

if TYPE_CHECKING:
    from testinfra.host import Host

GENERATED = re.compile(r"[0-9a-f]{32}")


def get(site: Site, app: dict[str, Any], path: str = "", **headers: str) -> Answer:
    """Ask an app as a client does; by default for its health."""
    path = path or app.get("health", {}).get("path", "/health/ready")
    return site.ask(app["server_names"][0], path, {name.replace("_", "-"): value for name, value in headers.items()})


def logged(host: Host, app: dict[str, Any], request_id: str) -> dict[str, Any]:
    """Return the line of the access log about a request; NGINX writes it within a second."""
    path = f"/var/log/nginx/{app['name']}.access.log"
    for _ in range(300):
        found = host.run("grep -F -e %s %s", request_id, path)
        if found.rc == 0:
            (line,) = found.stdout.splitlines()
            entry: dict[str, Any] = json.loads(line)
            return entry
        time.sleep(0.2)
    pytest.fail(f"no line about {request_id} in {path}")


def test_every_app_is_ready_under_each_of_its_names(site: Site, settings: dict[str, Any]) -> None:
    for app in served(settings):
        for name in app["server_names"]:
            answer = get(site, {**app, "server_names": [name]})
            access = app.get("http", {}).get("access")
            refused = access and (403 if access.get("authority") else 401)
            assert answer.status == (refused or app.get("health", {}).get("status", 200)), f"{app['name']} as {name}"


def _skip_behind(balancers: dict[str, dict[str, Any]]) -> None:
    if balancers:
        pytest.skip("balancers answer plain HTTP, and nothing else reaches this host by it")


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\nHost: unknown.invalid\r\n",
        b"GET / HTTP/1.1\r\nHost: 192.0.2.1\r\n",
        b"GET / HTTP/1.0\r\n",
    ],
    ids=["other name", "address", "no name"],
)
def test_who_does_not_know_a_name_gets_no_answer(
    settings: dict[str, Any], head: bytes, balancers: dict[str, dict[str, Any]]
) -> None:
    _skip_behind(balancers)
    plain = socket.create_connection((settings["address"], 80), timeout=10)
    assert exchange(plain, head + b"Connection: close\r\n\r\n") == b""


def test_a_request_without_an_id_gets_one_of_its_own(site: Site, settings: dict[str, Any]) -> None:
    for app in served(settings):
        first, second = (get(site, app).headers["X-Request-ID"] for _ in range(2))
        assert GENERATED.fullmatch(first)
        assert GENERATED.fullmatch(second)
        assert first != second


def test_a_well_formed_request_id_is_kept(site: Site, settings: dict[str, Any]) -> None:
    for app in served(settings):
        answer = get(site, app, X_Request_ID="client-1.2_3")
        assert answer.headers.get_all("X-Request-ID") == ["client-1.2_3"]


@pytest.mark.parametrize("request_id", ["short", "x" * 65, "has space", 'quote"quote', "semi;colon", "newline\\n0000"])
def test_a_malformed_request_id_is_replaced(site: Site, settings: dict[str, Any], request_id: str) -> None:
    for app in served(settings):
        (given,) = get(site, app, X_Request_ID=request_id).headers.get_all("X-Request-ID") or [""]
        assert GENERATED.fullmatch(given)


def test_a_request_is_one_line_of_json_in_the_access_log(host: Host, site: Site, settings: dict[str, Any]) -> None:
    for app in public(settings):
        before = time.time()
        agent = 'a "quoted" \\ agent'
        answer = get(site, app, "/access-log?query=1", User_Agent=agent)
        entry = logged(host, app, answer.headers["X-Request-ID"])
        assert entry["method"] == "GET"
        assert entry["uri"] == "/access-log?query=1"
        assert entry["status"] == answer.status
        assert entry["user_agent"] == agent
        assert entry["bytes"] > 0
        assert 0 <= entry["request_time_s"] < 10
        assert re.fullmatch(r"\d+\.\d+", entry["upstream_time_s"])
        # The clocks of two machines are compared here; a host that is a minute off has another problem.
        assert abs(entry["ts"] - before) < 60


def test_a_body_beyond_the_limit_never_reaches_the_app(host: Host, site: Site, settings: dict[str, Any]) -> None:
    for app in served(settings):
        too_much = app.get("limits", {}).get("body_mb", 1) * (1 << 20) + 1
        name = app["server_names"][0].encode()
        head = b"POST / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
        answer = site.raw(app["server_names"][0], head % (name, too_much))
        head_of_answer, _, body = answer.partition(b"\r\n\r\n")
        assert head_of_answer.startswith(b"HTTP/1.1 413 ")
        assert b"application/problem+json" in head_of_answer
        problem = json.loads(body)
        assert problem["status"] == 413
        assert logged(host, app, problem["request_id"])["upstream_status"] in {"", "-"}


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        (b"X-Big: " + b"x" * 20000 + b"\r\n", b"431"),
        (b"Content-Length: 1\r\nContent-Length: 2\r\n", b"400"),
        (b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n", b"400"),
        (b"Host: other.invalid\r\n", b"400"),
    ],
    ids=["big header", "two lengths", "length and chunks", "two hosts"],
)
def test_an_ambiguous_or_oversized_request_never_reaches_the_app(
    host: Host, site: Site, settings: dict[str, Any], fields: bytes, status: bytes
) -> None:
    for app in served(settings):
        name = app["server_names"][0].encode()
        answer = site.raw(
            app["server_names"][0], b"GET / HTTP/1.1\r\nHost: " + name + b"\r\nConnection: close\r\n" + fields + b"\r\n"
        )
        assert answer.startswith(b"HTTP/1.1 " + status + b" ")
        entry = logged(host, app, json.loads(answer.partition(b"\r\n\r\n")[2])["request_id"])
        assert entry["upstream_status"] in {"", "-"}


def test_no_version_is_disclosed(site: Site, settings: dict[str, Any]) -> None:
    for app in served(settings):
        for answer in (get(site, app), get(site, app, "/%00")):
            assert answer.headers["Server"] == "nginx"
            assert "X-Powered-By" not in answer.headers
            assert b"nginx/" not in answer.body


def handshake(site: Site, name: str | None, version: ssl.TLSVersion | None = None, ciphers: str = "") -> str:
    """Shake hands without checking the certificate; returns the version, or why there is none."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if version:
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = version
        ciphers = ciphers or "DEFAULT:@SECLEVEL=0"
    if ciphers:
        context.set_ciphers(ciphers)
    opened = socket.create_connection((site.address, 443), timeout=10)
    with contextlib.closing(opened):
        try:
            with context.wrap_socket(opened, server_hostname=name) as tls:
                return str(tls.version())
        except ssl.SSLError as error:
            return str(error.reason)
        except ConnectionError as error:
            return type(error).__name__


@pytest.fixture
def tls(site: Site) -> Site:
    """Return the sites where they speak TLS."""
    if site.context is None:
        pytest.skip("these sites speak plain HTTP, to a proxy that ends TLS")
    return site


@pytest.mark.parametrize("name", ["unknown.invalid", None], ids=["other name", "no name"])
def test_who_does_not_know_a_name_gets_no_certificate(tls: Site, name: str | None) -> None:
    assert handshake(tls, name) == "TLSV1_UNRECOGNIZED_NAME"


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_only_versions_and_ciphers_of_the_profile_are_spoken(tls: Site, settings: dict[str, Any]) -> None:
    name = served(settings)[0]["server_names"][0]
    assert handshake(tls, name) == "TLSv1.3"
    assert handshake(tls, name, ssl.TLSVersion.TLSv1_2) == "TLSv1.2"
    assert handshake(tls, name, ssl.TLSVersion.TLSv1_1) not in {"TLSv1.1", "TLSv1"}
    weak = "AES128-SHA:AES256-GCM-SHA384:ECDHE-ECDSA-AES128-SHA:ECDHE-RSA-AES128-SHA:DHE-RSA-AES128-GCM-SHA256"
    assert handshake(tls, name, ssl.TLSVersion.TLSv1_2, f"{weak}:@SECLEVEL=0") != "TLSv1.2"


def test_a_handshake_for_one_name_does_not_reach_another(tls: Site, settings: dict[str, Any]) -> None:
    name = served(settings)[0]["server_names"][0]
    answer = tls.raw(name, b"GET / HTTP/1.1\r\nHost: unknown.invalid\r\nConnection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 421 ")


def test_plain_http_leads_to_tls_and_keeps_method_and_path(
    tls: Site, settings: dict[str, Any], balancers: dict[str, dict[str, Any]]
) -> None:
    _skip_behind(balancers)
    plain = Site(tls.address, None)
    for app in served(settings):
        for name in app["server_names"]:
            answer = plain.ask(name, "/a/path?query=1", method="POST", body=b"body")
            assert (answer.status, answer.headers["Location"]) == (308, f"https://{name}/a/path?query=1")


def test_browsers_are_told_once_to_use_tls_only(tls: Site, settings: dict[str, Any]) -> None:
    for app in served(settings):
        (said,) = get(tls, app).headers.get_all("Strict-Transport-Security") or [""]
        assert re.fullmatch(r"max-age=\d{7,}", said)


def test_http_2_is_spoken(tls: Site, settings: dict[str, Any]) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2", "http/1.1"])
    with contextlib.closing(Site(tls.address, context).connect(served(settings)[0]["server_names"][0])) as connection:
        assert isinstance(connection, ssl.SSLSocket)
        assert connection.selected_alpn_protocol() == "h2"


def test_private_keys_are_roots_alone(host: Host) -> None:
    keys = host.check_output("find /etc/praetor/tls -name 'key.pem*' -printf '%m %u:%g\\n'").splitlines()
    assert keys
    assert set(keys) == {"600 root:root"}
