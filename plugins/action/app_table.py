"""Prints what the surveys of all hosts found as one table, or as one line of JSON; contacts no host."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ansible.utils.display import Display

from praetor.run.on_controller import ControllerAction
from praetor.run.printed import text
from praetor.run.tables import TABLES

if TYPE_CHECKING:
    from praetor.documents import Survey, Surveys


class ActionModule(ControllerAction):
    """Prints one table.

    Arguments: `table`, status, history or demo; `register`, the variable with each host's survey; `format`, table or json. For demo also
    `certificates`, who issues those of the sites, and `authority`, the file with the internal one's; `balancers`, the results of asking these.
    """

    def do(self, args: Mapping[str, Any]) -> Mapping[str, object]:
        """Print."""
        seen: Surveys = self.registered(args["register"])
        surveys = {host: self._with_address(host, survey, args) for host, survey in seen.items()}
        # What is about all hosts lies with the first.
        if self.hosts:
            surveys[self.hosts[0]]["fleet"] = list(self.variables["groups"].get("app_hosts", []))
        looks = {each["item"]: each["servers"] for each in args.get("balancers", []) if "servers" in each}
        if looks:
            surveys[self.hosts[0]]["balancers"] = looks
            closed = {app: until for each in args["balancers"] for app, until in each.get("closed", {}).items()}
            surveys[self.hosts[0]]["closed"] = closed
        table = args["table"]
        Display().display(
            json.dumps(TABLES[table](surveys)) if args["format"] == "json" else f"\n{text(table, surveys)}\n"
        )
        return {}

    def _reached_at(self, host: str) -> str:
        """Where clients reach a host: behind balancers at their shared address, or the first one's own."""
        hostvars, balancers = self.variables["hostvars"], self.variables["groups"].get("balancer_hosts", [])
        if not balancers:
            return str(hostvars[host].get("ansible_host", host))
        shared = hostvars[balancers[0]].get("keepalived_addresses") or []
        own = hostvars[balancers[0]].get("ansible_host", balancers[0])
        return str(shared[0]).partition("/")[0] if shared else str(own)

    def _with_address(self, host: str, survey: Survey, args: Mapping[str, Any]) -> Survey:
        """A host's survey with what a client needs to reach it."""
        issuer = args.get("certificates")
        return {
            **survey,
            "address": self._reached_at(host),
            "tls": issuer != "none",
            "authority": args["authority"] if issuer == "internal" else "",
        }
