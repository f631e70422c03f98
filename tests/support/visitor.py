"""A person with a browser: keeps cookies, fills in forms, follows redirects, and sometimes has a slow line."""

from __future__ import annotations

import contextlib
import re
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from html.parser import HTMLParser
from urllib.parse import urlencode, urljoin, urlsplit

from client import Answer, Site

File = tuple[str, bytes]


class _Fields(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, str] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "input" and given.get("name") and given.get("type") not in {"submit", "checkbox", "radio", "file"}:
            self.found[str(given["name"])] = given.get("value") or ""


@dataclass
class Visitor:
    """Somebody who visits one site."""

    site: Site
    name: str
    cookies: dict[str, str] = field(default_factory=dict)
    at: str = "/"

    def go(self, path: str, method: str = "GET", body: bytes | None = None, **headers: str) -> Answer:
        """Ask for a page; where that leads elsewhere, go there."""
        for _ in range(8):
            sent = {"Referer": f"https://{self.name}{self.at}", "Origin": f"https://{self.name}"}
            sent |= {name.replace("_", "-"): value for name, value in headers.items()}
            if self.cookies:
                sent["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
            answer = self.site.ask(self.name, path, sent, method, body)
            for line in answer.headers.get_all("Set-Cookie", []):
                name, _, value = line.partition(";")[0].partition("=")
                self.cookies[name.strip()] = value
            self.at = path
            if answer.status not in {301, 302, 303, 307, 308}:
                return answer
            leads_to = urlsplit(urljoin(f"https://{self.name}{path}", answer.headers["Location"]))
            # An app that does not know what NGINX says of the client sends it to http or to another name.
            assert (leads_to.scheme, leads_to.netloc) == ("https", self.name), answer.headers["Location"]
            path = leads_to.path + (f"?{leads_to.query}" if leads_to.query else "")
            if answer.status not in {307, 308}:
                method, body = "GET", None
                headers.pop("Content_Type", None)
        raise AssertionError(f"{self.name} leads in circles, at last to {path}")

    def page(self, path: str) -> str:
        """The text of a page that must be there."""
        answer = self.go(path)
        assert answer.status == 200, f"{path}: {answer.status} {answer.body[:500]!r}"
        return answer.body.decode(errors="replace")

    def fill(
        self, path: str, given: Mapping[str, str], files: Mapping[str, File] | None = None, to: str = ""
    ) -> Answer:
        """Fill in the form of a page, with what the page itself put into it."""
        fields = _Fields()
        fields.feed(self.page(path))
        return self.send(to or self.at, {**fields.found, **given}, files)

    def send(self, path: str, given: Mapping[str, str], files: Mapping[str, File] | None = None) -> Answer:
        """Send a form."""
        if not files:
            return self.go(path, "POST", urlencode(given).encode(), Content_Type="application/x-www-form-urlencoded")
        mark = secrets.token_hex(16)
        parts = [
            f'--{mark}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
            for name, value in given.items()
        ]
        for name, (filename, content) in files.items():
            about = f'--{mark}\r\nContent-Disposition: form-data; name="{name}"; filename="{filename}"\r\n'
            parts.append(f"{about}Content-Type: application/octet-stream\r\n\r\n".encode() + content + b"\r\n")
        body = b"".join([*parts, f"--{mark}--\r\n".encode()])
        return self.go(path, "POST", body, Content_Type=f"multipart/form-data; boundary={mark}")

    def assets(self, page: str) -> list[str]:
        """What a page loads from its site: scripts, styles and pictures."""
        named = re.findall(r"""(?:src|href)=["']([^"'#]+\.(?:js|css|png|svg|ico)(?:\?[^"']*)?)["']""", page)
        found = [urlsplit(urljoin(f"https://{self.name}{self.at}", each.replace("&amp;", "&"))) for each in named]
        return list(
            dict.fromkeys(f"{each.path}?{each.query}".rstrip("?") for each in found if each.netloc == self.name)
        )

    def take_slowly(self, path: str, bytes_s: int, pause_s: float = 0) -> bytes:
        """Download over a slow line, with a pause after the first part; as many bytes as were announced."""
        with contextlib.closing(self.site.open(self.name)) as connection:
            connection.request("GET", path, headers={"Host": self.name})
            answer = connection.getresponse()
            assert answer.status == 200
            taken = answer.read(bytes_s)
            time.sleep(pause_s)
            while part := answer.read(bytes_s // 5):
                taken += part
                time.sleep(0.2)
            return taken
