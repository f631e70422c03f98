"""The file by which a host is drained: while it is there, NGINX tells balancers to send nothing new. It outlives reloads and reboots."""

from __future__ import annotations

import json
import pathlib
import time
from typing import Literal, TypedDict

from .layout import AppHost, ReleaseError, read_json, write_atomically

FILE = pathlib.Path("/var/lib/praetor/balanced/drained")


class Drained(TypedDict):
    """Who drained a host, when and why."""

    by: str
    since: str
    why: str


def work(
    *, wanted: Literal["drain", "undrain", "look"], apps: list[str], by: str, why: str
) -> dict[str, bool | Drained | None]:
    """Drain the host, end that, or only look; returns what was and what is. The releases of `apps` must be at rest before the host is drained."""
    before = look()
    if wanted == "drain" and before is None:
        busy = [app for app in apps if read_json(AppHost(app).run_file)]
        if busy:
            raise ReleaseError(
                f"a release of {', '.join(busy)} is under way here, or was interrupted: wait for it, or run release.yml again. Nothing was changed"
            )
        since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        drain(Drained(by=by, since=since, why=why))
    elif wanted == "undrain":
        FILE.unlink(missing_ok=True)
    after = look()
    return {"changed": before != after, "before": before, "drained": after}


def look(file: pathlib.Path = FILE) -> Drained | None:
    """Who drained this host; None when it is not drained. A file that cannot be read drains all the same."""
    if not file.exists():
        return None
    found = read_json(file)
    said = found if isinstance(found, dict) else {}
    return Drained(by=str(said.get("by", "?")), since=str(said.get("since", "?")), why=str(said.get("why", "")))


def drain(drained: Drained, file: pathlib.Path = FILE) -> None:
    """Tell balancers from now on to send nothing new here."""
    file.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    write_atomically(file, json.dumps(drained) + "\n", 0o644)
