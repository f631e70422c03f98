"""Says which Python a host has; asks it only when no run has done so before."""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleConnectionFailure

from praetor.build.cache import place
from praetor.run.on_host import HostAction
from praetor.run.pythons import known, remember


class ActionModule(HostAction):
    """Returns `python`, the wheel tag of the host's Python; empty if the host is away, which the survey reports. `cache` is a directory on the controller."""

    _supports_check_mode = True
    WORK = "survey"
    ARGUMENTS = {"cache": {"type": "str", "required": True}}  # noqa: RUF012  read only
    _variables: dict[str, Any] = {}  # noqa: RUF012  set by each run

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Remember what the inventory says of hosts."""
        self._variables = task_vars or {}
        return super().run(tmp, task_vars)

    def do(self, args: dict[str, Any]) -> dict[str, Any]:
        """Look it up, or ask."""
        cache = place(args["cache"])
        if python := known(cache, self._variables, self.host):
            return {"python": python}
        try:
            answer = self.on_host({"apps": {}, "wanted": {}, "probe": False, "history": 0})
        except AnsibleConnectionFailure:
            return {"python": ""}
        if not answer.get("python"):
            return {
                **answer,
                "failed": True,
                "msg": answer.get("reason") or answer.get("msg") or "the host did not say",
            }
        remember(cache, self._variables, self.host, answer["python"])
        return {"python": answer["python"]}
