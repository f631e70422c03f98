"""Prints what database and backup hosts said, as a table or as one line of JSON; contacts no host."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.utils.display import Display

from praetor.pki.copies import fingerprint
from praetor.run.databases import About, Backups, Seen, controller_note, notes, rows
from praetor.run.on_controller import ControllerAction
from praetor.run.printed import render


class ActionModule(ControllerAction):
    """Arguments: names of variables, `databases` with what each database host is, `backups` and `controller` with what the backup host said.

    `controller` is about the copy of this controller, whose authority is in `authority_dir`; `format` is that of the table.
    """

    def do(self, args: Mapping[str, Any]) -> Mapping[str, object]:
        """Print."""
        groups, found = self.variables["groups"], self.variables["hostvars"]
        # What a host said passed through Ansible, which knows no types.
        answers: Any = {host: found[host].get(args["databases"]) or {} for host in groups.get("database_hosts", [])}
        seen: dict[str, Seen] = answers
        kept = {host: _said(found[host].get(args["backups"]) or {}) for host in groups.get("backup_hosts", [])}
        table = rows(seen)
        said = notes(seen, kept, time.time())
        own = fingerprint(Path(str(args["authority_dir"])).expanduser())
        for host in kept:
            answer = found[host].get(args["controller"]) or {}
            if not answer.get("unreachable"):
                said += controller_note(host, _about(answer), own)
        if args["format"] == "json":
            Display().display(json.dumps({"databases": table, "backups": kept}))
        else:
            Display().display("\n" + "\n".join([render(table), *said]) + "\n")
        return {}


def _about(answer: Mapping[str, Any]) -> About:
    about: About = json.loads(base64.b64decode(answer["content"])) if answer.get("content") else {}
    return about


def _said(answer: dict[str, Any]) -> Backups:
    lines = [line for line in str(answer.get("stdout", "")).splitlines() if line.startswith("{")]
    found: Backups = json.loads(lines[-1]) if lines else {}
    return found
