"""An action that contacts no host: it reads what the hosts of the play have registered, and computes or prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ansible.plugins.action import ActionBase

from praetor.documents import Run, Surveys, Target
from praetor.host.layout import ReleaseError

from .away import left_out, named, refusal
from .plan import lease_s


class ControllerAction(ActionBase):  # type: ignore[misc]  # ansible-core has no types
    """A subclass defines `do`, which gets the task's arguments and returns what to add to its result. It fails by raising a ReleaseError."""

    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True
    variables: Mapping[str, Any] = {}

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Do it."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        self.variables = task_vars or {}
        try:
            return {**result, "changed": False, **self.do(self._task.args)}
        except ReleaseError as error:
            return {**result, "failed": True, "msg": str(error)}

    def do(self, args: Mapping[str, Any]) -> Mapping[str, object]:
        """Do it; what this returns becomes part of the task's result."""
        raise NotImplementedError

    def surveys(self, name: str) -> Surveys:
        """What each host of the play has registered of itself in a variable.

        Raises:
            ReleaseError: a host has not answered.
        """
        found: Surveys = self.registered(name)
        if refused := refusal(found, str(self.variables.get("ansible_limit", ""))):
            raise ReleaseError(refused)
        return found

    def planned(self, run: Run, releases: Sequence[Target]) -> Run:
        """A run that brings these releases, with what the hosts must know of it."""
        everywhere = self.variables["groups"]["app_hosts"]
        without = left_out(everywhere, self.hosts)
        return {**run, "lease_s": lease_s(releases), "hosts": named(self.hosts), "without": without}

    @property
    def hosts(self) -> list[str]:
        """The hosts of the play."""
        return list(self.variables["ansible_play_hosts_all"])

    def registered(self, name: str) -> dict[str, Any]:
        """What each host of the play has registered in a variable; nothing where it has not."""
        return {host: self.variables["hostvars"][host].get(name) or {} for host in self.hosts}
