"""The story of a failed phase: how it gets from the task's result to the end of the run. Runs on the controller."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from praetor.documents import FailedPhase, Story


def failed(story: Story, *, changed: bool) -> FailedPhase:
    """The result of a phase that failed. Its message is the reason only where nothing after it tells that."""
    phase, reason = story["phase"], story["reason"]
    msg = reason if phase == "settle" else f"{phase} failed"
    return {"changed": changed, "failed": True, "msg": msg, "_ansible_praetor_story": story}


def story_of(result: Mapping[str, Any]) -> Story:
    """The story in the result of a failed task; for a task that is not a phase, what Ansible says."""
    if "_ansible_praetor_story" in result:
        return cast("FailedPhase", result)["_ansible_praetor_story"]
    return {"phase": "an unexpected place", "reason": str(result.get("msg")), "bad": False}
