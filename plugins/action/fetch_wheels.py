"""Fetches the wheels of locked requirements to the controller, for all Pythons of supported hosts; contacts no host."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from praetor.build.cache import place, place_of
from praetor.build.requirements import PYTHONS, parsed
from praetor.build.wheels import fetch
from praetor.host.layout import ReleaseError
from praetor.run.on_controller import ControllerAction


class ActionModule(ControllerAction):
    """Returns `wheels`: lists of files on the controller by Python tag. Arguments: `requirements`, a locked file; `cache`, a directory."""

    def do(self, args: Mapping[str, Any]) -> Mapping[str, object]:
        """Fetch what the cache does not have."""
        locked = parsed(Path(args["requirements"]).read_text(encoding="utf-8"))
        cache = place(args["cache"])
        fetched = {tag: fetch(locked, tag, None, cache) for tag in PYTHONS}
        lacking = {each.text for _, without in fetched.values() for each in without}
        if lacking:
            raise ReleaseError(f"no wheel at the package index: {', '.join(sorted(lacking))}")
        wheels = {tag: [str(place_of(wheel, cache)) for wheel in found] for tag, (found, _) in fetched.items()}
        return {"wheels": wheels}
