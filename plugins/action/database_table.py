"""Prints what database and backup hosts said, as a table or as one line of JSON; contacts no host."""

from __future__ import annotations

import json
import time
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.utils.display import Display

from praetor.run.databases import Backups, Seen, notes, rows
from praetor.run.tables import render


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core has no types
    """Arguments: `databases`, the variable with what each database host is; `backups`, the one with what the backup host said; `format`."""

    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Print."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        variables, args = task_vars or {}, self._task.args
        groups, found = variables["groups"], variables["hostvars"]
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
        return {**result, "changed": False}


def _said(answer: dict[str, Any]) -> Backups:
    lines = [line for line in str(answer.get("stdout", "")).splitlines() if line.startswith("{")]
    found: Backups = json.loads(lines[-1]) if lines else {}
    return found
