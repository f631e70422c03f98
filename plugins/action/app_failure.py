"""Gathers why a run failed, from the hosts where it failed; contacts no host."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from praetor.run.failures import story_of
from praetor.run.on_controller import ControllerAction

if TYPE_CHECKING:
    from praetor.documents import Failure


class ActionModule(ControllerAction):
    """Returns, in the rescue of a block of phases or of the last one, a `Failure`: what failed, the reasons by host, and the reason why it ended on this host."""

    def do(self, args: Mapping[str, Any]) -> Failure:  # noqa: ARG002  it has none
        """Look at the results of all hosts."""
        told = {host: story_of(failed) for host, failed in self.registered("ansible_failed_result").items() if failed}
        phase = next((story["phase"] for story in told.values()), "")
        reasons = {host: story["reason"] for host, story in told.items()}
        what = f"{phase} failed on {', '.join(reasons)}" if reasons else "a host dropped out of the run"
        if phase == "settle":  # the last phase, of what is not undone any more
            what = f"it is live on all hosts, but {what}"
        return {
            "what": what,
            "reasons": reasons,
            # The release failed under traffic: not only where that was seen.
            "bad": any(story["bad"] for story in told.values()),
            "reason": reasons.get(self.variables["inventory_hostname"], f"stopped, because {what}"),
        }
