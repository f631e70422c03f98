"""Asks a balancer about the hosts behind it, changes its lists, and waits until a host is quiet, used, or the address has moved."""

from __future__ import annotations

import time
from typing import Any

from ansible.errors import AnsibleConnectionFailure
from ansible.utils.display import Display

from praetor.run import fleet
from praetor.run.on_host import HostAction

TOLD_EVERY_S = 5
WAITS = {
    "spared": "{host} cannot be spared",
    "quiet": "{host} still has requests",
    "used": "{host} gets no requests yet",
    "holding": "waits for the address",
}


class ActionModule(HostAction):
    """Arguments: `balancer`, its name; `until`, what to wait for at most `timeout_s` seconds; `host`, which it is about.

    `change`, `addresses`: see `praetor.host.balancer.work`. Returns the last look, and `waited_s`.
    """

    _supports_check_mode = False
    WORK = "balancer"
    ARGUMENTS = {  # noqa: RUF012  read only
        "balancer": {"type": "str", "required": True},
        "until": {"type": "str", "choices": list(WAITS)},
        "host": {"type": "str", "default": ""},
        "keep": {"type": "int", "default": 1},
        "timeout_s": {"type": "float", "default": 0},
        "addresses": {"type": "list", "elements": "str", "default": []},
        "change": {"type": "dict"},
    }

    def do(self, args: dict[str, Any]) -> dict[str, Any]:
        """Look until it is as wanted, twice in a row where a host is to be quiet; a failure fails the task."""
        began = told = time.monotonic()
        in_row, wanted = 0, 2 if args["until"] == "quiet" else 1
        ask = {"addresses": args["addresses"], "change": args["change"]}
        changed = False
        while True:
            try:
                look = self.on_host(ask)
            except AnsibleConnectionFailure as error:
                look = {"reason": f"the balancer did not answer ({error})"}
            changed = changed or bool(look.get("changed"))
            ask["change"] = None
            reason = look.get("reason") or (look.get("msg") if look.get("failed") else None)
            missing = [reason] if reason else _missing(look, args)
            in_row = 0 if missing else in_row + 1
            now = time.monotonic()
            if not missing and (in_row >= wanted or not args["until"]):
                return {**look, "changed": changed, "waited_s": round(now - began, 1)}
            about = [WAITS[args["until"]].format(host=args["host"])] if args["until"] else []
            said = ": ".join([args["balancer"], *about, "; ".join(missing)])
            if missing and now - began > args["timeout_s"]:
                waited = f" after {now - began:.0f} s" if args["timeout_s"] else ""
                return {**look, "changed": changed, "failed": True, "msg": f"{said}{waited}"}
            if missing and now - told >= TOLD_EVERY_S:
                told = now
                Display().display(f"... {said} ({now - began:.0f} s, at most {args['timeout_s']:.0f})", color="yellow")
            time.sleep(1)


def _missing(look: dict[str, Any], args: dict[str, Any]) -> list[str]:
    """What is not yet there of what is waited for."""
    match args["until"]:
        case "spared":
            return fleet.alone(look["servers"], args["host"], args["keep"])
        case "quiet":
            return fleet.busy(look["servers"], args["host"])
        case "used":
            return fleet.unused(look["servers"], args["host"])
        case "holding" if not look["holds"]:
            return ["has none of the addresses"]
    return []
