#!/usr/bin/python
"""End a run on a host: retire what is not live, prune, record; or, when the run failed, put back what was."""

from __future__ import annotations

from typing import Any

from ansible.module_utils.praetor import call
from ansible.module_utils.praetor.host import AppHost
from ansible.module_utils.praetor.journal import holds, phase
from ansible.module_utils.praetor.settle import abandon, prune, settle


def work(params: dict[str, Any]) -> dict[str, Any]:
    """Settle, or abandon when a reason is given."""
    host, run = AppHost(params["app"]), params["run"]
    if params["failed_because"] and not holds(host, run["id"]):
        # This run never had the app here: there is nothing of it to undo, and another run may be at work.
        live = host.live()
        return {"done": [], "live": live.release if live else None}
    with phase(host, run, "settle") as journal:
        if params["failed_because"]:
            why, release = params["failed_because"], params["release"]
            done = abandon(host, run, journal, release, why, params["drain_s"], bad=params["bad"])
            # Also here, or failures in a row would fill the disk.
            done += prune(host, params["keep"])
        else:
            facts = {"bake": journal.get("bake")} if journal.get("bake") else {}
            done = settle(host, run, journal, params["release"], params["keep"], params["drain_s"], facts)
    live = host.live()
    return {"changed": True, "done": done, "live": live.release if live else None}


def main() -> None:
    """Describe the arguments."""
    call.run(
        {
            "app": {"type": "str", "required": True},
            "run": call.RUN,
            "release": {"type": "str", "required": True},
            "keep": {"type": "int", "required": True},
            "drain_s": {"type": "float", "required": True},
            "failed_because": {"type": "str"},
            "bad": {"type": "bool", "default": False},
        },
        work,
    )


if __name__ == "__main__":
    main()
