"""Fetches the wheels of locked requirements to the controller, for all Pythons of supported hosts; contacts no host."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase

from praetor.build.wheels import PYTHONS, fetch, requirements
from praetor.host.layout import ReleaseError


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core has no types
    """Returns `wheels`: lists of files on the controller by Python tag. Arguments: `requirements`, a locked file; `cache`, a directory."""

    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Fetch what the cache does not have."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        locked = list(requirements(Path(self._task.args["requirements"]).read_text(encoding="utf-8")))
        cache = Path(self._task.args["cache"]).expanduser()
        try:
            wheels = {tag: [wheel.path for wheel in fetch(locked, tag, cache)] for tag in PYTHONS}
        except ReleaseError as error:
            return {**result, "failed": True, "msg": str(error)}
        return {**result, "changed": False, "wheels": wheels}
