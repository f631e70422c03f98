"""Which of the things that run once in the fleet this host has: since when, so that other hosts can ask, and whether they may start in this boot.

At boot nothing of it starts before the other hosts were asked, by `holds-at-boot` of role flask_app: another one may have it since this host was off.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping

from .layout import AppHost, read_json, write_atomically


def take(host: AppHost, share: Mapping[str, int], once: Iterable[str]) -> None:
    """Note which of the app's things that run once are this host's: an operator or a release has decided it, so nobody needs to be asked.

    Args:
        host: the app.
        share: how many of everything run here.
        once: the names of those that run once in the fleet.
    """
    names = {name for name in once if share.get(name)}
    path = host.root / "claims.json"
    before = read_json(path) or {}
    claims = {name: before.get(name) or round(time.time(), 3) for name in sorted(names)}
    if claims != before:
        write_atomically(path, json.dumps(claims) + "\n", 0o644)
    place = host.layout.held
    place.mkdir(mode=0o755, parents=True, exist_ok=True)
    for name in names:
        (place / f"{host.app}-{name}").touch()
    for found in place.glob(f"{host.app}-*"):
        # An app's name has no dash.
        if found.name.removeprefix(f"{host.app}-") not in names:
            found.unlink(missing_ok=True)
