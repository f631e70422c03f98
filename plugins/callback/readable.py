"""Callback plugin: ends a run whose inventory is no YAML, or has a key twice, with file and line, before anything else happens."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from ansible import constants, context
from ansible.errors import AnsibleError
from ansible.plugins.callback import CallbackBase

from praetor.inventory.files import mistakes

DOCUMENTATION = """
name: readable
type: aggregate
short_description: Name the file and line that make an inventory unreadable
description:
  - Ansible names no file for a mistake in group_vars or host_vars, or for a vault's wrong password; it goes on without hosts after a mistake in the list
    of hosts, and warns of keys that stand twice.
"""


class CallbackModule(CallbackBase):  # type: ignore[misc]  # ansible-core has no types
    """Looks once, before the first play."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "readable"
    CALLBACK_NEEDS_ENABLED = True

    def v2_playbook_on_start(self, playbook: Any) -> None:
        """Look.

        Raises:
            SystemExit: there is a mistake; an ordinary exception would become a warning.
        """

        def decrypt(content: bytes) -> bytes:
            try:
                opened: bytes = playbook._loader._vault.decrypt(content)  # noqa: SLF001  the loader's other ways parse, and keep what they have read
            except AnsibleError as error:
                raise ValueError from error
            return opened

        sources = context.CLIARGS["inventory"] or ()
        # Ansible's own default is there where somebody has made it.
        named = [each for each in sources if each not in constants.DEFAULT_HOST_LIST or Path(each).exists()]
        found = mistakes(named, Path(playbook._basedir), decrypt)  # noqa: SLF001
        if found:
            count = f"{len(found)} mistake{'s' if len(found) > 1 else ''}"
            sys.stdout.flush()
            sys.stderr.write("\n".join([*found, f"{count} in the inventory. No host was contacted.", ""]))
            raise SystemExit(4)
