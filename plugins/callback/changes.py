"""Callback plugin: writes what each task changed, or would change, as one JSON object a line; for the test that looks for drift."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: changes
type: aggregate
short_description: Write what each task would change to the file that PRAETOR_CHANGES names
description:
  - Nothing unless the variable is set. What a task says with C(diff) is written only as the names of the files.
"""


class CallbackModule(CallbackBase):  # type: ignore[misc]
    """Watches for changed results."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "changes"
    CALLBACK_NEEDS_ENABLED = True

    def v2_runner_on_ok(self, result: Any) -> None:
        """Note a change, with the files that it is about."""
        path = os.environ.get("PRAETOR_CHANGES")
        if not path or not result.is_changed():
            return
        found = result._result  # noqa: SLF001 (the only way to it that all of 2.19 has)
        diffs = found.get("diff") or []
        diffs = diffs if isinstance(diffs, list) else [diffs]
        names = [str(diff.get("before_header") or "") for diff in diffs if isinstance(diff, dict)]
        files = sorted({name.split(" (content)")[0] for name in names if name})
        entry = {"host": result._host.get_name(), "task": result._task.get_name(), "files": files}  # noqa: SLF001
        with Path(path).open("a", encoding="utf-8") as lines:
            lines.write(json.dumps(entry) + "\n")
