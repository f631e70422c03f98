"""Prints what database and backup hosts said, as a table or as one line of JSON; contacts no host."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any

from ansible.utils.display import Display

from praetor.run.databases import Backups, Seen, notes, rows
from praetor.run.on_controller import ControllerAction
from praetor.run.tables import render


class ActionModule(ControllerAction):
    """Arguments: `databases`, the variable with what each database host is; `backups`, the one with what the backup host said; `format`."""

    def do(self, args: Mapping[str, Any]) -> Mapping[str, object]:
        """Print."""
        groups, found = self.variables["groups"], self.variables["hostvars"]
        # What a host said passed through Ansible, which knows no types.
        answers: Any = {host: found[host].get(args["databases"]) or {} for host in groups.get("database_hosts", [])}
        seen: dict[str, Seen] = answers
        kept = {host: _said(found[host].get(args["backups"]) or {}) for host in groups.get("backup_hosts", [])}
        table = rows(seen)
        said = notes(seen, kept, time.time())
        if args["format"] == "json":
            Display().display(json.dumps({"databases": table, "backups": kept}))
        else:
            Display().display("\n" + "\n".join([render(table), *said]) + "\n")
        return {}


def _said(answer: dict[str, Any]) -> Backups:
    lines = [line for line in str(answer.get("stdout", "")).splitlines() if line.startswith("{")]
    found: Backups = json.loads(lines[-1]) if lines else {}
    return found
