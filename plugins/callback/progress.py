"""Callback plugin: says every few seconds what a long task is and which hosts it is busy on.

Ansible prints a task's name with its first result where skipped hosts are not shown, so a long step looks stuck.
"""

from __future__ import annotations

import gc
import os
import signal
import time
from typing import Any

from ansible.plugins.callback import CallbackBase

from praetor.run.story import listed

DOCUMENTATION = """
name: progress
type: aggregate
short_description: Say which hosts a long task is still busy on
description:
  - Nothing for tasks that take less than five seconds.
"""

FIRST_S, EVERY_S = 5, 15


class CallbackModule(CallbackBase):  # type: ignore[misc]
    """Watches which hosts a task runs on."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "progress"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        """Start with nothing running."""
        super().__init__()
        self.busy: list[str] = []
        self.task = ""
        self.started = time.monotonic()
        # A timer's signal and not a thread: Ansible forks a worker for each task. Workers do not inherit timers.
        signal.signal(signal.SIGALRM, self.tell)

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:  # noqa: FBT001 (Ansible's signature)
        """Begin to count."""
        del is_conditional
        self.task, self.busy, self.started = task.get_name(), [], time.monotonic()
        signal.setitimer(signal.ITIMER_REAL, FIRST_S, EVERY_S)

    def v2_runner_on_start(self, host: Any, task: Any) -> None:
        """Note a host as busy."""
        del task
        self.busy.append(host.get_name())

    def done(self, result: Any, *, ignore_errors: bool = False) -> None:
        """Note a host as no longer busy."""
        del ignore_errors
        name = result._host.get_name()  # noqa: SLF001 (the only way to it that all of 2.19 has)
        if name in self.busy:
            self.busy.remove(name)

    v2_runner_on_ok = v2_runner_on_failed = v2_runner_on_unreachable = v2_runner_on_skipped = done

    def v2_playbook_on_stats(self, stats: Any) -> None:
        """Stop counting, and let Ansible end at once: otherwise its interpreter searches all objects for garbage, a tenth of a short run."""
        del stats
        signal.setitimer(signal.ITIMER_REAL, 0)
        gc.freeze()

    def tell(self, number: int, frame: Any) -> None:
        """Print one line about what still runs."""
        del number, frame
        if self.busy:
            seconds = round(time.monotonic() - self.started)
            # Past Ansible's display, whose lock the interrupted code may hold.
            os.write(1, f"... {seconds} s: {self.task} [{listed(sorted(self.busy))}]\n".encode())
