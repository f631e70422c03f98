"""A balancer: what HAProxy says about the hosts behind it, who has the shared addresses, and the lists that are changed while it runs."""

from __future__ import annotations

import pathlib
import socket
import time
from typing import TypedDict

from .layout import ReleaseError, write_atomically

ADMIN = pathlib.Path("/run/haproxy/admin.sock")
OTHERS = ("exporter_", "acme-")  # backends that are no app's
LISTS = pathlib.Path("/etc/haproxy")


class Server(TypedDict):
    """One host behind a balancer, for one app."""

    status: str  # HAProxy's: UP, NOLB (drained), DOWN, MAINT
    sessions: int  # requests that it has now
    queued: int  # requests that wait for it
    why: str  # what its last health check found


Servers = dict[str, dict[str, Server]]  # by app, then by host


class Change(TypedDict):
    """A change to a list next to HAProxy's configuration."""

    list: str
    entries: dict[str, str | None]  # None: taken out


class Look(TypedDict):
    """What a balancer says about itself, and whether it was changed."""

    changed: bool
    servers: Servers
    holds: list[str]
    closed: dict[str, int]  # apps in maintenance, each with the second at which it ends


def work(*, change: Change | None, addresses: list[str]) -> Look:
    """Look, after making a change if one is given. `addresses` are those that two balancers share; `holds` names those that this host has."""
    changed = put(change["list"], change["entries"]) if change else False
    holds = [each for each in addresses if has(each)]
    return {"changed": changed, "servers": servers(ask("show stat")), "holds": holds, "closed": closed()}


def closed(lists: pathlib.Path = LISTS) -> dict[str, int]:
    """The apps in maintenance."""
    lines = (lists / "maintenance.map").read_text(encoding="utf-8").splitlines()
    found = {app: int(until) for app, until in (line.split() for line in lines if line.strip())}
    return {app: until for app, until in found.items() if until > time.time()}


def ask(command: str, admin: pathlib.Path = ADMIN) -> str:
    """What HAProxy's worker answers to a command.

    Raises:
        ReleaseError: it does not answer.
    """
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(5)
            connection.connect(str(admin))
            connection.sendall(command.encode() + b"\n")
            return b"".join(iter(lambda: connection.recv(65536), b"")).decode(errors="replace")
    except OSError as error:
        raise ReleaseError(f"HAProxy does not answer on {admin}: {error}. Look: systemctl status haproxy") from error


def servers(text: str) -> Servers:
    """Read the table of `show stat`: the servers of each site."""
    import csv  # noqa: PLC0415  every call would pay for it

    found: Servers = {}
    for row in csv.DictReader(text.removeprefix("# ").splitlines()):
        if row["svname"] in {"FRONTEND", "BACKEND"} or row["pxname"].startswith(OTHERS):
            continue
        why = f"{row.get('check_status') or ''} {row.get('last_chk') or ''}".strip()
        server = Server(status=row["status"], sessions=int(row["scur"] or 0), queued=int(row["qcur"] or 0), why=why)
        found.setdefault(row["pxname"], {})[row["svname"]] = server
    return found


def has(address: str) -> bool:
    """Whether this host has an address now: only then the kernel binds a socket to it."""
    bare = address.partition("/")[0]
    with socket.socket(socket.AF_INET6 if ":" in bare else socket.AF_INET, socket.SOCK_STREAM) as probe:
        try:
            probe.bind((bare, 0))
        except OSError:
            return False
    return True


def put(name: str, entries: dict[str, str | None], lists: pathlib.Path = LISTS, admin: pathlib.Path = ADMIN) -> bool:
    """Change a list in its file, which the next reload reads, and in the running HAProxy. Returns whether anything was different.

    Without values (a file that ends in .lst) the keys alone count.
    """
    path = lists / name
    lines_before = [line.split(maxsplit=1) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    before = {line[0]: line[1] if line[1:] else "" for line in lines_before}
    after = {key: value for key, value in {**before, **entries}.items() if value is not None}
    lines = "".join(f"{key} {value}".rstrip() + "\n" for key, value in after.items())
    write_atomically(path, lines, 0o644)
    kind = "acl" if path.suffix == ".lst" else "map"
    for key, value in entries.items():
        # Absent is fine for the first of the two.
        ask(f"del {kind} {path} {key}", admin)
        if value is not None:
            ask(f"add {kind} {path} {key} {value}".rstrip(), admin)
    return before != after
