"""Judges on the controller whether a change of the primary may begin, given what all database hosts are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from praetor.host.layout import ReleaseError
from praetor.run.databases import maintenance, refusal, upgrade
from praetor.run.on_controller import ControllerAction


class ActionModule(ControllerAction):
    """Arguments: `kind`; `register`, the variable with what each host is; switchover, failover and rejoin: `to`, the host, and `force`.

    maintain: `chosen`, the hosts to be maintained, and `outage`; it returns in which order.
    upgrade: `version`, the one to reach, and `systems`, the Debian of each host; it returns the primary.
    """

    def do(self, args: Mapping[str, Any]) -> Mapping[str, object]:
        """Refuse, or say nothing."""
        seen: Any = self.registered(args["register"])
        if args["kind"] == "maintain":
            order = maintenance(args["chosen"], seen, outage=bool(args.get("outage")))
            if order["refused"]:
                raise ReleaseError(f"{order['refused']} Nothing was changed on them.")
            return order
        if args["kind"] == "upgrade":
            reason, primary = upgrade(int(args["version"]), seen, args["systems"])
            if reason:
                raise ReleaseError(f"{reason} Nothing was changed.")
            return {"primary": primary}
        reason = refusal(args["kind"], str(args["to"]), seen, force=bool(args.get("force")))
        if reason:
            raise ReleaseError(f"{reason} Nothing was changed.")
        return {}
