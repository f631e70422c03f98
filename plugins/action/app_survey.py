"""Looks at apps on a host without changing anything."""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleConnectionFailure

from praetor.build.cache import place
from praetor.run.away import reason
from praetor.run.on_host import HostAction
from praetor.run.pythons import remember


class ActionModule(HostAction):
    """`apps` maps names to their first server name; the others: `praetor.host.survey.work`. With `cache`, the next build knows the host's Python.

    With `report_away`, a host that cannot be reached is no failure: the answer has the reason as `away`. `connect_s` is how long
    to try; each such host of a loop is waited for.
    """

    _supports_check_mode = True
    WORK = "survey"
    ARGUMENTS = {  # noqa: RUF012  read only
        "apps": {"type": "dict", "required": True},
        "wanted": {"type": "dict", "default": {}},
        "probe": {"type": "bool", "default": False},
        "history": {"type": "int", "default": 0},
        "cache": {"type": "str"},
        "report_away": {"type": "bool", "default": False},
        "connect_s": {"type": "int"},
    }
    _variables: dict[str, Any] = {}  # noqa: RUF012  set by each run

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Remember what the inventory says of hosts."""
        self._variables = task_vars or {}
        return super().run(tmp, task_vars)

    def do(self, args: dict[str, Any]) -> dict[str, Any]:
        """Survey."""
        cache, report_away, connect_s = (args.pop(name) for name in ("cache", "report_away", "connect_s"))
        if report_away and self._connection.transport == "ssh":
            # One more try, for a shared connection that has died: others wait for this answer.
            self._connection.set_option("reconnection_retries", 0 if connect_s else 1)
            if connect_s:
                self._connection.set_option("timeout", connect_s)
        try:
            answer = super().do(args)
        except AnsibleConnectionFailure as error:
            if not report_away:
                raise
            return {"away": reason(str(error))}
        if cache and answer.get("python"):
            remember(place(cache), self._variables, self.host, answer["python"])
        return answer
