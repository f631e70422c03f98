"""Requests that should never reach a worker, sent as bytes; and what a client can make an application believe."""

from __future__ import annotations

import contextlib
import json
import re
import secrets
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from client import Site, exchange

if TYPE_CHECKING:
    from testinfra.host import Host

NAME = "echo.lab.example"
SEEN = "/srv/apps/echo/data/seen.jsonl"
HOST = b"Host: echo.lab.example\r\n"
# The attack's own bytes follow the first line; MARK tells its requests from others in what reached the application.
MARK = b"/MARK"
Row = Callable[[str, str, str], None]


def outcome(answer: bytes) -> str:
    """Say in a word what came back."""
    if not answer:
        return "no answer"
    # HTTP/0.9 knows no status; then the page says it.
    said = re.match(rb"HTTP/\S+ (\d{3})", answer) or re.search(rb"<title>(\d{3}) ", answer)
    return said[1].decode() if said else f"{answer[:20]!r}"


def chunked(body: bytes) -> bytes:
    """Return the bytes of a POST whose body is in chunks."""
    return b"POST /MARK HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n" + body


def get(target: bytes = MARK, fields: bytes = HOST, version: bytes = b"HTTP/1.1") -> bytes:
    """Return the bytes of a GET."""
    return b"GET " + target + b" " + version + b"\r\n" + fields + b"Connection: close\r\n\r\n"


def post(fields: bytes, body: bytes = b"") -> bytes:
    """Return the bytes of a POST."""
    return b"POST /MARK HTTP/1.1\r\n" + HOST + fields + b"Connection: close\r\n\r\n" + body


SMUGGLED = b"0\r\n\r\nGET /MARK HTTP/1.1\r\nHost: echo.lab.example\r\n\r\n"

# What is sent, and what comes back. Whatever that is: nothing of it reaches a worker.
REFUSED: dict[str, tuple[bytes, str]] = {
    # Two readers of one stream must not disagree where a request ends.
    "length and chunks": (post(b"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n", SMUGGLED), "400"),
    "chunks and length": (post(b"Transfer-Encoding: chunked\r\nContent-Length: 6\r\n", SMUGGLED), "400"),
    "two lengths": (post(b"Content-Length: 4\r\nContent-Length: 9\r\n", b"bodybody2"), "400"),
    "the same length twice": (post(b"Content-Length: 4\r\nContent-Length: 4\r\n", b"body"), "400"),
    "a list of lengths": (post(b"Content-Length: 4, 4\r\n", b"body"), "400"),
    "a length with a sign": (post(b"Content-Length: +4\r\n", b"body"), "400"),
    "a negative length": (post(b"Content-Length: -4\r\n", b"body"), "400"),
    "a length in hex": (post(b"Content-Length: 0x4\r\n", b"body"), "400"),
    "a length beyond 64 bits": (post(b"Content-Length: 99999999999999999999\r\n", b"body"), "400"),
    "an unknown coding": (post(b"Transfer-Encoding: xchunked\r\n", SMUGGLED), "501"),
    "a list of codings": (post(b"Transfer-Encoding: identity, chunked\r\n", SMUGGLED), "501"),
    "a coding with a tab": (post(b"Transfer-Encoding:\tchunked, x\r\n", SMUGGLED), "501"),
    "chunks twice": (post(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", SMUGGLED), "400"),
    "chunks in HTTP/1.0": (
        b"POST /MARK HTTP/1.0\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n" + SMUGGLED,
        "400",
    ),
    "a chunk of no size": (chunked(b"x\r\nbody\r\n0\r\n\r\n"), "400"),
    "a chunk of negative size": (chunked(b"-1\r\nbody\r\n0\r\n\r\n"), "400"),
    "a chunk size beyond 64 bits": (chunked(b"fffffffffffffffff\r\nbody\r\n0\r\n\r\n"), "400"),
    "a chunk longer than its size": (chunked(b"2\r\nbody\r\n0\r\n\r\n"), "400"),
    "a space before the colon": (post(b"Content-Length : 4\r\n", b"body"), "400"),
    "a folded field": (get(fields=HOST + b"X-A: 1\r\n\tX-B: 2\r\n"), "400"),
    "a field without a name": (get(fields=HOST + b": value\r\n"), "400"),
    "a null byte in a field": (get(fields=HOST + b"X-A: a\0b\r\n"), "400"),
    # Which host, and which path.
    "a whole URL": (get(b"https://echo.lab.example/MARK"), "400"),
    "a whole URL and another Host": (get(b"https://echo.lab.example/MARK", b"Host: evil.example\r\n"), "400"),
    "a whole URL of another host": (get(b"https://evil.example/MARK"), "421"),
    "another Host": (get(fields=b"Host: evil.example\r\n"), "421"),
    "two Hosts": (get(fields=HOST + b"Host: evil.example\r\n"), "400"),
    "no Host": (get(fields=b""), "400"),
    "an empty Host": (get(fields=b"Host:\r\n"), "400"),
    "a Host with a user": (get(fields=b"Host: echo.lab.example@evil.example\r\n"), "421"),
    "a Host with a path": (get(fields=b"Host: echo.lab.example/x\r\n"), "400"),
    "a Host with a space": (get(fields=b"Host: echo.lab.example evil\r\n"), "400"),
    "a null byte in Host": (get(fields=b"Host: echo.lab.example\0\r\n"), "400"),
    "a way out of the root": (get(b"/MARK/../../etc/passwd"), "400"),
    "an encoded way out of the root": (get(b"/MARK/%2e%2e/%2e%2e/etc/passwd"), "400"),
    "an encoded slash": (get(b"/MARK%2fadmin"), "400"),
    "an encoded slash in upper case": (get(b"/MARK%2Fadmin"), "400"),
    "an encoded backslash": (get(b"/MARK%5c..%5cadmin"), "400"),
    "an encoded null byte": (get(b"/MARK%00.png"), "400"),
    "an encoded line break": (get(b"/MARK%0d%0aX-Injected:%201"), "400"),
    "an encoded delete": (get(b"/MARK%7f"), "400"),
    "a broken escape": (get(b"/MARK%zz"), "400"),
    "a null byte in the path": (get(b"/MARK\0"), "400"),
    "an asterisk for a path": (get(b"*MARK"), "400"),
    "a space in the path": (get(b"/MARK /x"), "400"),
    # Sizes.
    "a long URI": (get(MARK + b"x" * 9000), "414"),
    "a large field": (get(fields=HOST + b"X-A: " + b"x" * 9000 + b"\r\n"), "431"),
    "large fields together": (get(fields=HOST + (b"X-A: " + b"x" * 6000 + b"\r\n") * 8), "431"),
    "a large body": (post(b"Content-Length: 1048577\r\n", b"x" * 1000), "413"),
    "a large body in chunks": (chunked(b"100001\r\n" + b"x" * 0x100001 + b"\r\n0\r\n\r\n"), "413"),
    # What is no request.
    "TRACE": (b"TRACE /MARK HTTP/1.1\r\n" + HOST + b"\r\n", "405"),
    "CONNECT": (b"CONNECT evil.example:443 HTTP/1.1\r\n" + HOST + b"\r\n", "400 or 405"),
    "a method in lower case": (b"get /MARK HTTP/1.1\r\n" + HOST + b"\r\n", "400"),
    "HTTP/3.7": (get(version=b"HTTP/3.7"), "505"),
    "HTTP/0.9": (b"GET /MARK\r\n", "421"),
    "garbage": (b"\x00\x01\x02MARK\r\n\r\n", "400"),
    "HTTP/2 without its handshake": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nMARK", "400"),
}


def reached(host: Host, mark: bytes) -> bool:
    """Tell whether a request with a mark is among what the application was given."""
    return bool(host.run("grep -qF -e %s %s", mark.decode(), SEEN).rc == 0)


def fresh() -> bytes:
    """Return a mark that no other request has."""
    return b"mark" + secrets.token_hex(8).encode()


def ask(site: Site, path: str = "/") -> dict[str, Any]:
    """Return what the application was given for a request."""
    answer = site.ask(NAME, path)
    assert answer.status == 200, answer
    found: dict[str, Any] = json.loads(answer.body)
    return found


def test_the_application_tells_what_reached_it(host: Host, site: Site) -> None:
    mark = fresh()
    assert not reached(host, mark)
    ask(site, f"/{mark.decode()}")
    assert reached(host, mark)


@pytest.mark.parametrize("attack", REFUSED)
def test_a_request_is_refused_before_it_reaches_a_worker(host: Host, site: Site, row: Row, attack: str) -> None:
    request, expected = REFUSED[attack]
    mark = fresh()
    assert b"MARK" in request or request.startswith(b"CONNECT")
    seen = outcome(site.raw(NAME, request.replace(b"MARK", mark)))
    row(attack, expected, f"{seen}, reached a worker" if reached(host, mark) else seen)


def test_plain_http_on_the_tls_port_is_refused(host: Host, site: Site, row: Row) -> None:
    mark = fresh()
    seen = exchange(socket.create_connection((site.address, 443), timeout=10), get(b"/" + mark))
    row("plain HTTP to port 443", "400", outcome(seen))
    assert not reached(host, mark)


def test_the_uwsgi_protocol_is_refused(host: Host, site: Site, row: Row) -> None:
    mark = fresh()
    variable = b"\x0b\x00UWSGI_FILE\x0c\x00exec://" + mark
    packet = b"\x00" + len(variable).to_bytes(2, "little") + b"\x00" + variable
    for port in (80, 443):
        seen = outcome(exchange(socket.create_connection((site.address, port), timeout=10), packet + b"\r\n\r\n"))
        row(f"the uwsgi protocol on port {port}", "400", seen)
    assert not reached(host, mark)


# What an application is made to believe.

SPOOFED = {
    "X-Forwarded-For": "203.0.113.7",
    "X-Forwarded-Proto": "gopher",
    "X-Forwarded-Host": "evil.example",
    "X-Forwarded-Port": "1",
    "X-Forwarded-Prefix": "/evil",
    "X-Forwarded-Server": "evil.example",
    "X-Real-IP": "203.0.113.7",
    "Forwarded": "for=203.0.113.7;host=evil.example",
    "X-Original-URL": "/evil",
    "X-Rewrite-URL": "/evil",
    "X-Script-Name": "/evil",
    "X-Remote-User": "evil",
    "True-Client-IP": "203.0.113.7",
    "Proxy": "http://evil.example",
    "X_Forwarded_For": "203.0.113.7",
}


@pytest.mark.parametrize("header", SPOOFED)
def test_a_client_cannot_speak_for_a_proxy(site: Site, row: Row, header: str) -> None:
    given = site.raw(NAME, get(b"/", HOST + f"{header}: {SPOOFED[header]}\r\n".encode()))
    environ = json.loads(given.partition(b"\r\n\r\n")[2])
    believed = [name for name, value in environ.items() if value == SPOOFED[header]]
    row(header, "not believed", f"believed in {believed[0]}" if believed else "not believed")
    assert environ["REMOTE_ADDR"] == environ["HTTP_X_FORWARDED_FOR"] == environ["HTTP_X_REAL_IP"]
    assert environ["HTTP_X_FORWARDED_PROTO"] == environ["REQUEST_SCHEME"] == "https"
    assert (environ["HTTP_HOST"], environ["HTTP_X_FORWARDED_HOST"]) == (NAME, NAME)


def test_a_port_in_host_is_not_believed(site: Site, row: Row) -> None:
    given = site.raw(NAME, get(b"/", b"Host: echo.lab.example:8080\r\n"))
    row("Host with another port", NAME, json.loads(given.partition(b"\r\n\r\n")[2])["HTTP_HOST"])


PROXY = """
import socket, ssl, sys
context = ssl._create_unverified_context()
tls = context.wrap_socket(socket.create_connection((sys.argv[1], 443), 10), server_hostname=sys.argv[2])
fields = "Host: %s\\r\\nX-Forwarded-For: 198.51.100.9, 203.0.113.7\\r\\nX-Forwarded-Proto: http\\r\\nConnection: close" % sys.argv[2]
tls.sendall(("GET / HTTP/1.1\\r\\n%s\\r\\n\\r\\n" % fields).encode())
answer = b""
while data := tls.recv(65536):
    answer += data
print(answer.partition(b"\\r\\n\\r\\n")[2].decode())
"""


def test_a_trusted_proxy_is_believed_its_last_word(site: Site, outsider: Host, row: Row) -> None:
    environ = json.loads(outsider.check_output("python3 -c %s %s %s", PROXY, site.address, NAME))
    row("a trusted proxy's X-Forwarded-For", "203.0.113.7", environ["REMOTE_ADDR"])
    row("a trusted proxy's X-Forwarded-Proto", "http", environ["REQUEST_SCHEME"])
    assert (environ["HTTP_X_FORWARDED_FOR"], environ.get("HTTPS", "")) == ("203.0.113.7", "")


# Time and number.


def closed_after(connection: socket.socket, begin: bytes, drip: bytes = b"") -> str:
    """Send a beginning, and then a byte twice a second or nothing, until the other side closes."""
    began = time.monotonic()
    with contextlib.closing(connection), contextlib.suppress(OSError):
        connection.sendall(begin)
        connection.settimeout(0.5)
        while time.monotonic() - began < 20:
            with contextlib.suppress(TimeoutError):
                if not connection.recv(4096):
                    return "cut off"
            connection.sendall(drip)
        return "held"
    return "cut off"


def test_headers_that_never_end_are_cut_off(site: Site, row: Row) -> None:
    slow = b"GET / HTTP/1.1\r\n" + HOST + b"X-Slow: "
    row("headers, a byte twice a second", "cut off", closed_after(site.connect(NAME), slow, b"x"))


def test_a_body_that_stops_is_cut_off(host: Host, site: Site, row: Row) -> None:
    mark = fresh()
    slow = b"POST /" + mark + b" HTTP/1.1\r\n" + HOST + b"Content-Length: 1000\r\n\r\nbegin"
    row("a body that stops", "cut off", closed_after(site.connect(NAME), slow))
    assert not reached(host, mark)


def test_a_slow_body_holds_no_worker(host: Host, site: Site, row: Row) -> None:
    mark = fresh()
    slow = [site.connect(NAME) for _ in range(8)]
    for connection in slow:
        connection.sendall(b"POST /" + mark + b" HTTP/1.1\r\n" + HOST + b"Content-Length: 1000\r\n\r\nbegin")
    answered = [site.ask(NAME, "/").status for _ in range(4)]
    row("8 slow bodies, 2 workers", "others served", "others served" if answered == [200] * 4 else str(answered))
    for connection in slow:
        connection.close()
    assert not reached(host, mark)


def test_too_many_connections_of_one_client_are_refused(site: Site, row: Row) -> None:
    head = b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 10\r\n\r\n"
    held = [site.connect(NAME) for _ in range(45)]
    for connection in held:
        connection.sendall(head)
    time.sleep(0.5)
    answers = []
    for connection in held:
        connection.settimeout(0.05)
        try:
            answers.append(outcome(connection.recv(4096)))
        except TimeoutError:
            answers.append("held")
    for connection in held:
        connection.close()
    refused = set(answers) - {"held"}
    row("45 connections where 40 may be", "429", ", ".join(sorted(refused)) or "served")
    assert answers.count("held") <= 40


def test_a_flood_of_one_client_is_refused_and_others_are_served(site: Site, outsider: Host, row: Row) -> None:
    request = b"GET / HTTP/1.1\r\n" + HOST
    flood = (request + b"\r\n") * 299 + request + b"Connection: close\r\n\r\n"
    with ThreadPoolExecutor(4) as pool:
        floods = [pool.submit(site.raw, NAME, flood) for _ in range(4)]
        elsewhere = outsider.run("python3 -c %s %s %s", PROXY, site.address, NAME).stdout
        answers = b"".join(each.result() for each in floods)
    refused = re.findall(rb"HTTP/1.1 429 .*?\r\n\r\n", answers, re.DOTALL)
    row("a flood", "429", "429" if refused else "served")
    row("another client, meanwhile", "served", "served" if elsewhere.startswith("{") else elsewhere)
    assert all(b"\r\nRetry-After: 1\r\n" in each for each in refused)
    assert b'{"title":"Too Many Requests","status":429,' in answers
    time.sleep(2)  # until the next test is welcome again
