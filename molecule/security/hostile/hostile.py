"""An app that tries to read what belongs to another app of its host, by every way that an app has."""

from __future__ import annotations

import functools
import os
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from flask import Flask, Response, jsonify, request

OTHER = "victim"


def read(path: Path) -> str:
    """Read a file, or list a directory."""
    return str(sorted(path.iterdir())) if path.is_dir() else path.read_bytes()[:200].decode(errors="replace")


def write(path: Path) -> str:
    """Leave a file behind."""
    path.write_text("was here", encoding="utf-8")
    return "written"


def connect(path: str) -> str:
    """Open a unix socket."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(3)
        connection.connect(path)
    return "connected"


def fetch(port: int) -> str:
    """Ask an exporter."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=3) as answer:
        return str(answer.read(200).decode())


def others_processes() -> list[Path]:
    """Return what /proc shows of processes that are not ours."""
    mine = os.getuid()
    return [path for path in Path("/proc").glob("[0-9]*") if path.exists() and path.stat().st_uid != mine]


def attempts(release: str, slot: str) -> dict[str, Callable[[], str]]:
    """Name every attempt. The test, which may look, says what the other's release and slot are called."""
    root, run = Path("/srv/apps", OTHER), f"/run/uwsgi/{OTHER}"
    return {
        "list the release": lambda: read(root / "releases" / release),
        "read the code": lambda: read(root / "releases" / release / "src" / "hostile.py"),
        "read the settings": lambda: read(root / "releases" / release / "config.yml"),
        "read the manifest": lambda: read(root / "releases" / release / "release.json"),
        "read the vassal file": lambda: read(Path("/etc/uwsgi", OTHER, "1", f"{slot}.ini")),
        "read the secret": lambda: read(root / "releases" / release / "secrets" / "CANARY"),
        "list data": lambda: read(root / "data"),
        "write into data": lambda: write(root / "data" / "x"),
        "write into releases": lambda: write(root / "releases" / "x"),
        "write a vassal file": lambda: write(Path("/etc/uwsgi", OTHER, "1", "x.ini")),
        "write its own vassal file": lambda: write(Path("/etc/uwsgi", os.environ["USER"], "1", "x.ini")),
        "list sockets": lambda: read(Path(run)),
        "speak to the live socket": lambda: connect(str(root / "live.sock")),
        "speak to the slot's socket": lambda: connect(f"{run}/{slot}.sock"),
        "read the slot's stats": lambda: connect(f"{run}/{slot}.stats"),
        "read the Emperor's stats": lambda: connect(f"{run}/emperor-1.stats"),
        "read metric files": lambda: read(Path(run, f"{slot}.metrics")),
        "ask app_exporter": lambda: fetch(9117),
        "ask the node exporter": lambda: fetch(9100),
        "ask the nginx exporter": lambda: fetch(9113),
        "read the access log": lambda: read(Path("/var/log/nginx", f"{OTHER}.access.log")),
        "read keys of sites": lambda: read(Path("/etc/praetor/tls/sites", OTHER, "key.pem")),
        "read the host's key": lambda: read(Path("/etc/praetor/tls/host/key.pem")),
        "read the journal": lambda: read(next(Path("/var/log/journal").glob("*/system.journal"))),
        "read shadow": lambda: read(Path("/etc/shadow")),
        "see other processes": lambda: str(others_processes()[:3]) if others_processes() else nothing(),
        "become root": become_root,
    }


def become_root() -> str:
    """Ask the kernel for more."""
    os.setuid(0)
    return "root"


def nothing() -> str:
    """Say that there was nothing to see."""
    raise PermissionError("nothing is visible")


def attempt(what: Callable[[], str]) -> dict[str, str]:
    """Try, and say what came of it."""
    try:
        return {"got": what()}
    except (OSError, urllib.error.URLError) as error:
        return {"refused": f"{type(error).__name__}: {error}"}


def ready() -> Response:
    """Say that traffic may come."""
    return Response("ready")


def attack() -> Response:
    """Try everything."""
    found = attempts(request.args["release"], request.args["slot"])
    return jsonify({name: attempt(what) for name, what in found.items()})


def attack_processes() -> Response:
    """Try to look into processes whose ids the test knows."""
    names = ("environ", "cmdline", "maps", "root")
    files = [Path("/proc", pid, name) for pid in request.args["pids"].split(",") for name in names]
    return jsonify({str(path): attempt(functools.partial(read, path)) for path in files})


app = Flask(__name__)
app.add_url_rule("/health/ready", view_func=ready)
app.add_url_rule("/attack", view_func=attack)
app.add_url_rule("/attack/processes", view_func=attack_processes)

if __name__ == "__main__":
    if os.environ.get("CHECK") != "pass":
        sys.exit("the check fails, as it was told")
