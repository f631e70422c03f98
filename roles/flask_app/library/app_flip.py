#!/usr/bin/python
"""Send new requests to the slot that passed the gate, and watch it under real traffic."""

from __future__ import annotations

import pathlib
from typing import Any

from ansible.module_utils.praetor import call
from ansible.module_utils.praetor.flip import Limits, flip_and_bake
from ansible.module_utils.praetor.host import AppHost, ReleaseError, Slot
from ansible.module_utils.praetor.journal import phase


def work(params: dict[str, Any]) -> dict[str, Any]:
    """Flip and bake."""
    host, limits = AppHost(params["app"]), params["limits"]
    slot = Slot.parse(params["slot"])
    if slot is None or slot not in host.slots():
        raise ReleaseError(f"slot {params['slot']} does not run on this host; nothing was flipped")
    with phase(host, params["run"], "flip") as journal:
        allowed = Limits(limits["bake_s"], limits["max_5xx_ratio"], limits["max_p95_factor"], limits["min_requests"])
        bake = flip_and_bake(host, slot, allowed, pathlib.Path(params["access_log"]), journal)
        journal["bake"] = bake
    return {"changed": bake["flipped"], "bake": bake}


def main() -> None:
    """Describe the arguments."""
    call.run(
        {
            "app": {"type": "str", "required": True},
            "run": call.RUN,
            "slot": {"type": "str", "required": True},
            "limits": {"type": "dict", "required": True},
            "access_log": {"type": "path", "required": True},
        },
        work,
    )


if __name__ == "__main__":
    main()
