"""Callback plugin: ends a run whose inventory is no YAML, or has a key twice, with file and line, before anything else happens."""

from __future__ import annotations

import sys
from pathlib import Path

from ansible import context
from ansible.plugins.callback import CallbackBase

from praetor.inventory.files import mistakes

DOCUMENTATION = """
name: readable
type: aggregate
short_description: Name the file and line that make an inventory unreadable
description:
  - Ansible names no file for a mistake in group_vars or host_vars, goes on without hosts after one in the list of hosts, and warns of keys that stand twice.
"""


class CallbackModule(CallbackBase):  # type: ignore[misc]  # ansible-core has no types
    """Looks once, when it is loaded."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "readable"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        """Look.

        Raises:
            SystemExit: there is a mistake; an ordinary exception would become a warning.
        """
        super().__init__()
        named = context.CLIARGS.get("args") or ["."]
        found = mistakes(context.CLIARGS.get("inventory") or (), Path(named[0]).parent)
        if found:
            count = f"{len(found)} mistake{'s' if len(found) > 1 else ''}"
            sys.stderr.write("\n".join([*found, f"{count} in the inventory. No host was contacted.", ""]))
            raise SystemExit(4)
