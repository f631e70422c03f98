"""Looks at apps on a host without changing anything."""

from __future__ import annotations

from typing import Any

from praetor.build.cache import place
from praetor.run.on_host import HostAction
from praetor.run.pythons import remember


class ActionModule(HostAction):
    """`apps` maps names to their first server name; the others: `praetor.host.survey.work`. With `cache`, the next build knows the host's Python."""

    _supports_check_mode = True
    WORK = "survey"
    ARGUMENTS = {  # noqa: RUF012  read only
        "apps": {"type": "dict", "required": True},
        "wanted": {"type": "dict", "default": {}},
        "probe": {"type": "bool", "default": False},
        "history": {"type": "int", "default": 0},
        "cache": {"type": "str"},
    }
    _variables: dict[str, Any] = {}  # noqa: RUF012  set by each run

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Remember what the inventory says of hosts."""
        self._variables = task_vars or {}
        return super().run(tmp, task_vars)

    def do(self, args: dict[str, Any]) -> dict[str, Any]:
        """Survey."""
        cache = args.pop("cache")
        answer = super().do(args)
        if cache and answer.get("python"):
            remember(place(cache), self._variables, self.host, answer["python"])
        return answer
