"""Prints what app_logs found on all hosts in time order; contacts no host."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ansible.utils.display import Display

from praetor.host.layout import ReleaseError
from praetor.run.on_controller import ControllerAction
from praetor.run.requests import merge, render, silent, unknown


class ActionModule(ControllerAction):
    """Prints lines.

    Arguments: `register`, the variable with each host's entries; `archive`, the entries of hosts that do not answer, `monitor`, where these are
    from, and `gone`, why that one did not answer; `host`, the only one that was asked for, or empty; `format`, text or json.
    """

    def do(self, args: Mapping[str, Any]) -> Mapping[str, object]:
        """Print."""
        seen = self.registered(args["register"])
        groups = self.variables["groups"]
        everywhere = {host for tier in ("app_hosts", "balancer_hosts") for host in groups.get(tier, [])}
        if refused := unknown(args["host"], self.hosts, args["archive"], args["monitor"], everywhere, args["gone"]):
            raise ReleaseError(refused)
        by_host = {host: list(found.get("entries") or []) for host, found in seen.items()}
        entries = merge({**by_host, args["monitor"]: args["archive"]})
        for sentence in silent(seen, args["monitor"], args["gone"]):
            Display().warning(sentence)
        as_json = args["format"] == "json"
        text = "\n".join(json.dumps(entry) if as_json else render(entry) for entry in entries)
        Display().display(f"\n{text or '(nothing)'}\n" if not as_json else text)
        return {}
