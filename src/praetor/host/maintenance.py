"""Maintenance of an app: clients get 503 until a moment, or their requests wait. It ends by itself, whoever is there to end it.

Where HAProxy answers clients, its lists say so; else NGINX's files. Both outlive reloads and reboots.
"""

from __future__ import annotations

import ipaddress
import json
import pathlib
import re
import subprocess
import time
from typing import Any, Literal, TypedDict

from . import balancer
from .layout import ReleaseError, read_json, write_atomically

NGINX = pathlib.Path("/etc/nginx/maintenance")


class Window(TypedDict):
    """An app's maintenance as NGINX has it."""

    name: str  # the app's first server name, by which NGINX knows it
    until: int  # seconds since the epoch
    allow: list[str]


def work(
    *,
    app: str,
    server_name: str,
    for_s: int | None,
    hold_s: int | None,
    allow: list[str],
    end: bool,
    by: Literal["haproxy", "nginx"],
) -> dict[str, bool | int]:
    """Begin or end the maintenance of an app; `by` says who answers clients. Returns `until`, the second at which it ends, 0 for none."""
    now = int(time.time())
    until = 0 if end else now + (for_s or 0)
    if by == "haproxy":
        hold = now + hold_s if hold_s else 0
        return {
            "changed": in_haproxy(app, until if for_s else 0, hold, allow),
            "until": hold or until,
        }
    window = Window(name=server_name, until=until, allow=allow)
    return {"changed": in_nginx(app, window, now), "until": until}


def closed(place: pathlib.Path = NGINX) -> dict[str, int]:
    """The apps that NGINX keeps closed, each with the second at which that ends."""
    found = read_json(place / "windows.json")
    windows: dict[str, Window] = found if isinstance(found, dict) else {}
    return {app: each["until"] for app, each in windows.items() if each["until"] > time.time()}


def in_haproxy(app: str, until: int, hold: int, allow: list[str]) -> bool:
    """Write HAProxy's lists of an app; who is let in comes first, so that nobody of them is kept out for a moment."""
    known = (balancer.LISTS / f"allowed_{app}.lst").read_text(encoding="utf-8").split()
    entries: dict[str, str | None] = {**dict.fromkeys(known), **dict.fromkeys(allow, "")}
    changed = [
        balancer.put(f"allowed_{app}.lst", entries),
        balancer.put("maintenance.map", {app: str(until) if until else None}),
        balancer.put("pauses.map", {app: str(hold) if hold else None}),
    ]
    return any(changed)


def in_nginx(app: str, window: Window, now: int, place: pathlib.Path = NGINX) -> bool:
    """Write NGINX's files and let it read them; those of maintenances that are over are cleared away.

    Raises:
        ReleaseError: the host is not prepared for it, or NGINX refuses the files, which are then as before.
    """
    if not place.is_dir():
        raise ReleaseError(
            f"there is no {place} on this host. Nothing was changed. Type: ansible-playbook playbooks/provision.yml -i INVENTORY"
        )
    state = place / "windows.json"
    found = read_json(state)
    before: dict[str, Window] = found if isinstance(found, dict) else {}
    after = {name: each for name, each in {**before, app: window}.items() if each["until"] > now}
    if after == before:
        return False
    files = {place / "until.map": until_map(after), place / "allowed.geo": allowed_geo(after)}
    kept = {path: path.read_text(encoding="utf-8") for path in files}
    for path, text in files.items():
        write_atomically(path, text, 0o644)
    tried = subprocess.run(["/usr/sbin/nginx", "-t", "-q"], capture_output=True, text=True, check=False)
    if tried.returncode:
        for path, text in kept.items():
            write_atomically(path, text, 0o644)
        raise ReleaseError(f"NGINX refuses it, so nothing was changed: {tried.stderr.strip()}")
    write_atomically(state, json.dumps(after) + "\n", 0o644)
    subprocess.run(["systemctl", "reload", "nginx"], check=True)
    return True


def before_pattern(until: int) -> str:
    """A regular expression for the seconds before a moment: NGINX compares no numbers, but knows the time as ten digits."""
    digits = str(until)
    ways = [f"{digits[:place]}[0-{int(digit) - 1}]" for place, digit in enumerate(digits) if digit != "0"]
    return f"(?:{'|'.join(ways)})"


def until_map(windows: dict[str, Window]) -> str:
    """When each app serves again, as the date in Retry-After, while that is to come."""
    from email.utils import formatdate  # noqa: PLC0415  every call would pay for it

    return "".join(
        f'"~^{re.escape(each["name"])} {before_pattern(each["until"])}" "{formatdate(each["until"], usegmt=True)}";\n'
        for each in windows.values()
    )


def allowed_geo(windows: dict[str, Window]) -> str:
    """The apps that each network is let into, by their names; of overlapping networks NGINX takes the narrower one alone."""
    wanted = [(ipaddress.ip_network(text), each["name"]) for each in windows.values() for text in each["allow"]]
    lines = []
    for network in sorted({network for network, _ in wanted}, key=str):
        names = sorted({name for other, name in wanted if other.version == network.version and _within(network, other)})
        lines.append(f'{network} "{" ".join(names)}";\n')
    return "".join(lines)


def _within(network: Any, other: Any) -> bool:
    return bool(network.subnet_of(other))
