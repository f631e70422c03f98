"""Fetches the wheels of locked requirements to the controller, for all Pythons of supported hosts; contacts no host."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase

# Plugins run on the controller, where Ansible does not add a project's module_utils to the import path.
_MODULE_UTILS = str(Path(__file__).resolve().parents[2] / "module_utils")
if _MODULE_UTILS not in sys.path:
    sys.path.insert(0, _MODULE_UTILS)

from praetor.host import ReleaseError  # noqa: E402
from praetor.wheels import PYTHONS, fetch, requirements  # noqa: E402


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
