"""Prints what the Redis host said, as a table or as one line of JSON; contacts no host."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ansible.utils.display import Display

from praetor.run.on_controller import ControllerAction
from praetor.run.printed import render
from praetor.run.redis import Seen, notes, rows


class ActionModule(ControllerAction):
    """Arguments: `register`, the variable with what each host's redis-instance printed; `format` is that of the table."""

    def do(self, args: Mapping[str, Any]) -> Mapping[str, object]:
        """Print."""
        found = self.registered(str(args["register"]))
        seen: dict[str, list[Seen] | None] = {host: _said(found.get(host) or {}) for host in self.hosts}
        table = rows(seen)
        if args["format"] == "json":
            Display().display(json.dumps({"redis": table}))
        elif table:
            Display().display("\n" + "\n".join([render(table), *notes(seen)]) + "\n")
        return {}


def _said(answer: Mapping[str, Any]) -> list[Seen] | None:
    lines = [line for line in str(answer.get("stdout", "")).splitlines() if line.startswith("[")]
    found: list[Seen] | None = json.loads(lines[-1]) if lines else None
    return found
