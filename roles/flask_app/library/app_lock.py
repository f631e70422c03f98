#!/usr/bin/python
"""Take the lock of a run on an app, and repair what an interrupted run left."""

from __future__ import annotations

from typing import Any

from ansible.module_utils.praetor import call
from ansible.module_utils.praetor.host import AppHost
from ansible.module_utils.praetor.journal import phase
from ansible.module_utils.praetor.settle import repair


def work(params: dict[str, Any]) -> dict[str, Any]:
    """Lock and repair."""
    host = AppHost(params["app"])
    with phase(host, params["run"], "lock", params["break_run"], begins=True) as journal:
        repaired = repair(host, journal, params["drain_s"])
    return {"changed": bool(repaired), "repaired": repaired}


def main() -> None:
    """Describe the arguments."""
    call.run(
        {
            "app": {"type": "str", "required": True},
            "run": call.RUN,
            "break_run": {"type": "str"},
            "drain_s": {"type": "float", "required": True},
        },
        work,
    )


if __name__ == "__main__":
    main()
