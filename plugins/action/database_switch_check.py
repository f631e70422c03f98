"""Judges on the controller whether a change of the primary may begin, given what all database hosts are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from praetor.host.layout import ReleaseError
from praetor.run.databases import refusal
from praetor.run.on_controller import ControllerAction


class ActionModule(ControllerAction):
    """Arguments: `kind`, switchover, failover or rejoin; `to`, the host; `register`, the variable with what each host is; `force`."""

    def do(self, args: Mapping[str, Any]) -> Mapping[str, object]:
        """Refuse, or say nothing."""
        seen: Any = self.registered(args["register"])
        reason = refusal(args["kind"], str(args["to"]), seen, force=bool(args.get("force")))
        if reason:
            raise ReleaseError(f"{reason} Nothing was changed.")
        return {}
