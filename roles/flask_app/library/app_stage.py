#!/usr/bin/python
"""Stage a release on a host; its action plugin uploads what the host does not have."""

from __future__ import annotations

import pathlib
from typing import Any

from ansible.module_utils.praetor import call
from ansible.module_utils.praetor.host import AppHost
from ansible.module_utils.praetor.journal import phase
from ansible.module_utils.praetor.settle import repair
from ansible.module_utils.praetor.stage import stage


def work(params: dict[str, Any]) -> dict[str, Any]:
    """Lock, repair, stage."""
    host = AppHost(params["app"])
    with phase(host, params["run"], "stage", params["break_run"], begins=True) as journal:
        repaired = repair(host, journal, params["drain_s"])
        uploads = pathlib.Path(params["uploads"]) if params["uploads"] else None
        parts = {**params["parts"], "secrets": params["secrets"]}
        staged = stage(host, params["manifest"], parts, uploads, params["checks"])
    return {"changed": staged or bool(repaired), "staged": staged, "repaired": repaired}


def main() -> None:
    """Describe the arguments."""
    call.run(
        {
            "app": {"type": "str", "required": True},
            "run": call.RUN,
            "break_run": {"type": "str"},
            "drain_s": {"type": "float", "required": True},
            "manifest": {"type": "dict", "required": True},
            "parts": {"type": "dict", "required": True},
            "secrets": {"type": "dict", "default": {}, "no_log": True},
            "checks": {"type": "list", "elements": "list", "default": []},
            "uploads": {"type": "path"},
        },
        work,
    )


if __name__ == "__main__":
    main()
