"""Callback plugin: loads plugins once in Ansible's main process, before it forks a worker for each host and task.

A worker starts as a copy of the main process. What this has not loaded, each of them loads for itself: all filters, the documentation of the
connection, the action with what it imports, the engine that is sent to hosts. That was two fifths of what a release costs the controller.
"""

from __future__ import annotations

from typing import Any

from ansible.plugins import loader
from ansible.plugins.callback import CallbackBase

from praetor.run import on_host

DOCUMENTATION = """
name: warm
type: aggregate
short_description: Load plugins once for all hosts
description:
  - Changes nothing of what a run does.
"""


class CallbackModule(CallbackBase):  # type: ignore[misc]  # ansible-core has no types
    """Loads what the next tasks need."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "warm"
    CALLBACK_NEEDS_ENABLED = True

    def v2_playbook_on_play_start(self, play: Any) -> None:
        """Load what nearly every task uses. Asking for one filter or test loads them all."""
        loader.filter_loader.get("default")
        loader.test_loader.get("defined")
        loader.shell_loader.get("sh")
        loader.become_loader.get(play.become_method or "sudo")
        loader.connection_loader.get(play.connection or "ssh", class_only=True)
        on_host.read()

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:  # noqa: FBT001 (Ansible's signature)
        """Load the task's action, unless one worker only does the task. It has no name where a module is all there is."""
        del is_conditional
        if not task.run_once:
            loader.action_loader.get(task.action, class_only=True)
