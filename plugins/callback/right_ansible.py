"""Callback plugin: ends a run of an Ansible that has not what this project needs, in one line, before anything else happens."""

from __future__ import annotations

import importlib.util
import sys

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: right_ansible
type: aggregate
short_description: Refuse an Ansible from outside of the project's virtualenv
description:
  - A distribution's Ansible, or that of another virtualenv, has neither the engine nor the libraries that it needs.
"""

# What the engine imports, and what imports as the engine itself.
NEEDED = ("praetor", "jsonschema", "pydantic", "packaging", "cryptography", "yaml")


def missing() -> list[str]:
    """Name what this Python has not."""
    return [name for name in NEEDED if importlib.util.find_spec(name) is None]


class CallbackModule(CallbackBase):  # type: ignore[misc]  # ansible-core has no types
    """Looks once, when it is loaded."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "right_ansible"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        """Look.

        Raises:
            SystemExit: something is missing; an ordinary exception would become a warning.
        """
        super().__init__()
        if found := missing():
            sys.stderr.write(
                f"This Ansible ({sys.executable}) is not the project's: it has no {', '.join(found)}. "
                "Nothing was done. Run: make setup && . .venv/bin/activate\n"
            )
            raise SystemExit(4)
