"""Checks the inventory's `release_notify` and `release_hooks`, before any host is contacted."""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase

from praetor.inventory.notices import check, plain


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core has no types
    """Takes both from the variables of the first host: they are the run's."""

    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Say all mistakes at once."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        given, found = {}, []
        for name in ("release_notify", "release_hooks"):
            try:
                given[name] = plain(self._templar.template, (task_vars or {}).get(name))
            except AnsibleError as error:
                found.append(
                    f"{name}: found what cannot be resolved ({str(error).partition(chr(10))[0]}), expected plain or vaulted values"
                )
        found += [] if found else check(given["release_notify"], given["release_hooks"])
        if found:
            count = "1 mistake" if len(found) == 1 else f"{len(found)} mistakes"
            message = f"{count} in the inventory's release_notify and release_hooks. No host was contacted."
            return {**result, "failed": True, "msg": message, "mistakes": "\n".join(found) + "\n"}
        return {**result, "changed": False}
