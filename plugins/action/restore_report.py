"""Says what a restore found, or why there is none or can be none; contacts no host."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ansible.utils.display import Display

from praetor.host.layout import ReleaseError
from praetor.run.databases import restored
from praetor.run.on_controller import ControllerAction


class ActionModule(ControllerAction):
    """Arguments: `copy`, what database-restore wrote; `said`, its complaints; `host`, where; `show`, whether it is printed."""

    def do(self, args: Mapping[str, Any]) -> Mapping[str, object]:
        """Print, or fail."""
        lines = [line for line in str(args["copy"]).splitlines() if line.startswith("{")]
        found: Any = json.loads(lines[-1]) if lines else {"error": str(args["said"]) or "database-restore said nothing"}
        if "error" in found:
            raise ReleaseError(
                f"{args['host']}: nothing was restored, and what serves was not touched. {found['error']}"
            )
        if args.get("show", True):
            Display().display("\n" + restored(str(args["host"]), found) + "\n")
        return {"restored": found}
