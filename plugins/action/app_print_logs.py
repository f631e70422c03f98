"""Prints what app_logs found on all hosts in time order; contacts no host."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ansible.utils.display import Display

from praetor.run.on_controller import ControllerAction
from praetor.run.requests import merge, render


class ActionModule(ControllerAction):
    """Prints lines. Arguments: `register`, the variable with each host's entries; `format`, text or json."""

    def do(self, args: Mapping[str, Any]) -> Mapping[str, object]:
        """Print."""
        seen = self.registered(args["register"])
        entries = merge({host: list(found.get("entries") or []) for host, found in seen.items()})
        as_json = args["format"] == "json"
        text = "\n".join(json.dumps(entry) if as_json else render(entry) for entry in entries)
        Display().display(f"\n{text or '(nothing)'}\n" if not as_json else text)
        return {}
