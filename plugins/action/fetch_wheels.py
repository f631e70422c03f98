"""Fetches the wheels of locked requirements to the controller, for all Pythons of supported hosts; contacts no host."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase

from praetor.build.cache import place, place_of
from praetor.build.requirements import PYTHONS, parsed
from praetor.build.wheels import fetch
from praetor.host.layout import ReleaseError


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core has no types
    """Returns `wheels`: lists of files on the controller by Python tag. Arguments: `requirements`, a locked file; `cache`, a directory."""

    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Fetch what the cache does not have."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        locked = parsed(Path(self._task.args["requirements"]).read_text(encoding="utf-8"))
        cache = place(self._task.args["cache"])
        try:
            fetched = {tag: fetch(locked, tag, None, cache) for tag in PYTHONS}
        except ReleaseError as error:
            return {**result, "failed": True, "msg": str(error)}
        lacking = {each.text for _, without in fetched.values() for each in without}
        if lacking:
            return {**result, "failed": True, "msg": f"no wheel at the package index: {', '.join(sorted(lacking))}"}
        wheels = {tag: [str(place_of(wheel, cache)) for wheel in found] for tag, (found, _) in fetched.items()}
        return {**result, "changed": False, "wheels": wheels}
