"""Runs on a host, as root: prints everything that is there of an app, as JSON. `python3 - APP < look.py`."""

from __future__ import annotations

import json
import pwd
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

APP = sys.argv[1]
ROOT, RUN, VASSALS = Path("/srv/apps", APP), Path("/run/uwsgi", APP), Path("/etc/uwsgi", APP)


def stats(path: Path) -> dict[str, Any]:
    """What a stats server says."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(path))
        said: dict[str, Any] = json.loads(b"".join(iter(lambda: connection.recv(65536), b"")))
    return said


def told(kind: str) -> list[str]:
    """The app's Emperors' own view of their vassals."""
    return sorted(entry["id"] for path in RUN.glob("emperor-*.stats") for entry in stats(path)[kind])


def asked() -> list[str]:
    """The paths of the requests that the live slot's workers hold."""
    if not live.is_symlink():
        return []
    found = stats(live.readlink().with_suffix(".stats"))
    cores = [core for worker in found["workers"] for core in worker["cores"] if core["in_request"]]
    variables = [variable.partition("=") for core in cores for variable in core["vars"]]
    return [value for name, _, value in variables if name == "PATH_INFO"]


def processes(user: str) -> dict[int, list[str]]:
    """The processes of a user's slots and Emperors, by id: name of the program and id of the parent."""
    uid, found = pwd.getpwnam(user).pw_uid, {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if path.stat().st_uid == uid and "/uwsgi-emperor@" in (path / "cgroup").read_text():
                found[int(path.name)] = (path / "stat").read_text().rpartition(")")[2].split()[:2]
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def units() -> dict[str, str]:
    """The app's processes: unit and state."""
    command = ["systemctl", "list-units", "--all", "--plain", "--no-legend", f"app-{APP}-*@*"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return {line.split()[0]: line.split()[2] for line in said.splitlines()}


live = ROOT / "live.sock"
releases = ROOT / "releases"
print(
    json.dumps(
        {
            "live": live.readlink().stem if live.is_symlink() else None,
            "vassals": sorted(path.name for path in VASSALS.glob("*/*")),
            "emperors": sorted(int(path.name) for path in VASSALS.iterdir()),
            "emperor": told("vassals"),
            "blacklist": told("blacklist"),
            "run": sorted(path.name for path in RUN.iterdir()),
            "root": sorted(path.name for path in ROOT.iterdir()),
            "complete": sorted(path.parent.name for path in releases.glob("*/release.json")),
            "releases": sorted(path.name for path in releases.iterdir()),
            "processes": processes(APP),
            "asked": asked(),
            "units": units(),
            "unit files": {
                path.name: path.read_text().splitlines()[1].removeprefix("# Release: ")
                for path in Path("/etc/systemd/system").glob(f"app-{APP}-*@.service")
            },
            "history": [json.loads(line) for line in (ROOT / "history.jsonl").read_text().splitlines()],
        }
    )
)
