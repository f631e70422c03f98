"""Callback plugin: a run as a story, see `praetor.run.story`. With -v it prints Ansible's own lines."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible import context
from ansible.playbook.block import Block
from ansible.plugins.callback.default import CallbackModule as AnsiblesOwn
from ansible.plugins.loader import callback_loader

try:
    from praetor.run.story import Counts, Story, messages, reason, shown
except ModuleNotFoundError:
    # Ansible loads this one before right_ansible, which says in one line why it ends the run.
    callback_loader.get("right_ansible")
    raise

DOCUMENTATION = """
name: story
type: stdout
short_description: A line for each step of a run with its hosts and seconds, each error once, and at the end what is live
description:
  - With C(-v) it prints what Ansible's own callback prints. ANSIBLE_STDOUT_CALLBACK=ansible.builtin.default takes that one always.
extends_documentation_fragment:
  - default_callback
  - result_format_callback
"""

# What a run consists of, by the plugin that does it; everything else is said only if something came of it.
PHASES = frozenset(
    {
        "app_build",
        "app_phase",
        "app_survey",
        "balancer",
        "host_drained",
        "lab_base",
        "lab_machine",
        "debian_packages",
        "postgresql_switch",
    }
)
# It has told everything by itself, and fails only to end the run.
REPORT = "app_report"
PLANS = frozenset({"app_plan", "app_plan_rollback", "app_plan_refresh"})
SAYS = frozenset({"ansible.builtin.debug", "debug"})
QUIET = frozenset({"ansible.builtin.include_tasks", "include_tasks", "ansible.builtin.include_role", "include_role"})


class CallbackModule(AnsiblesOwn):  # type: ignore[misc]  # ansible-core has no types
    """Tells the story what Ansible tells it."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "stdout"
    CALLBACK_NAME = "story"

    def __init__(self) -> None:
        """Begin."""
        super().__init__()
        self.story = Story(self._say)
        self.action = ""

    @property
    def _plain(self) -> bool:
        """Whether Ansible's own lines are asked for."""
        return bool(self._display.verbosity)

    def _say(self, text: str, colour: str) -> None:
        self._display.display(text, color=colour or None)

    def v2_playbook_on_start(self, playbook: Any) -> None:
        """Say what runs."""
        if self._plain:
            super().v2_playbook_on_start(playbook)
            return
        path = Path(playbook._file_name)  # noqa: SLF001  it has no other name
        self.story.begin(path, context.CLIARGS["inventory"] or (), dry=context.CLIARGS["check"])

    def v2_playbook_on_play_start(self, play: Any) -> None:
        """Begin a play."""
        self._play = play
        if self._plain:
            super().v2_playbook_on_play_start(play)
            return
        inventory = play.get_variable_manager()._inventory  # noqa: SLF001  what the run is limited to is known nowhere else
        self.story.play(play.get_name().strip(), [host.get_name() for host in inventory.get_hosts(play.hosts)])

    def _task_start(self, task: Any, prefix: str | None = None) -> None:
        if self._plain:
            super()._task_start(task, prefix)
            return
        role = task._role.get_name() if task._role else ""  # noqa: SLF001  it has no other way
        self.story.task(str(task.name or task.action).strip(), role, phase=task.action in PHASES)

    def v2_runner_on_ok(self, result: Any) -> None:
        """Note a result, and what it says of releases."""
        if self._plain:
            super().v2_runner_on_ok(result)
            return
        if result.task.action in QUIET:
            return
        self._handle_warnings(result.result)
        self.story.result(result.host.get_name(), "changed" if result.result.get("changed") else "ok")
        if result.task.action in SAYS:
            for text in messages(result.result):
                self.story.message(text)
        self._learn(result)

    def v2_runner_on_skipped(self, result: Any) -> None:
        """Note that there was nothing to do."""
        if self._plain:
            super().v2_runner_on_skipped(result)
            return
        self.story.result(result.host.get_name(), "skipped")

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:  # noqa: FBT001, FBT002  Ansible's signature
        """Note why."""
        if self._plain:
            super().v2_runner_on_failed(result, ignore_errors)
            return
        self._handle_warnings(result.result)
        if ignore_errors:
            self.story.result(result.host.get_name(), "ok")
            return
        self.story.reported |= result.task.action == REPORT
        told = "" if result.task.action == REPORT else reason(result.result, _place(result.task))
        self.story.error(result.host.get_name(), told, rescued=_rescued(result.task))

    def v2_runner_on_unreachable(self, result: Any) -> None:
        """Note that a host does not answer."""
        if self._plain:
            super().v2_runner_on_unreachable(result)
            return
        self.story.error(result.host.get_name(), reason(result.result, ""), status="unreachable")

    def _quiet(self, method: str, *arguments: Any) -> None:
        if self._plain:
            getattr(super(), method)(*arguments)

    def v2_runner_item_on_ok(self, result: Any) -> None:
        """Wait for the whole result."""
        self._quiet("v2_runner_item_on_ok", result)

    def v2_runner_item_on_failed(self, result: Any) -> None:
        """Wait for the whole result."""
        self._quiet("v2_runner_item_on_failed", result)

    def v2_runner_item_on_skipped(self, result: Any) -> None:
        """Wait for the whole result."""
        self._quiet("v2_runner_item_on_skipped", result)

    def v2_playbook_on_include(self, included_file: Any) -> None:
        """Say nothing: its tasks come."""
        self._quiet("v2_playbook_on_include", included_file)

    def v2_playbook_on_no_hosts_remaining(self) -> None:
        """Say nothing: why is said already."""
        self._quiet("v2_playbook_on_no_hosts_remaining")

    def v2_playbook_on_no_hosts_matched(self) -> None:
        """Say nothing: plays for tiers that an inventory has not are many."""
        self._quiet("v2_playbook_on_no_hosts_matched")

    def _print_task_banner(self, task: Any) -> None:
        """What stands above a diff."""
        if self._plain:
            super()._print_task_banner(task)
            return
        self._last_task_banner = task._uuid  # noqa: SLF001  it has no other name

    def v2_playbook_on_stats(self, stats: Any) -> None:
        """Say what came of the run."""
        if self._plain:
            super().v2_playbook_on_stats(stats)
            return
        found = {}
        for host in stats.processed:
            told = stats.summarize(host)
            found[host] = Counts(told["ok"], told["changed"], told["unreachable"], told["failures"])
        self.story.end(found)

    def _learn(self, result: Any) -> None:
        """What is released, and where it is live by now."""
        if result.task.action in PLANS:
            told = result.result
            releases = told.get("releases") or []
            self.story.unneeded = not releases
            for release in releases if not context.CLIARGS["check"] else []:
                self.story.travels(release["app"], release["id"])
        elif result.task.action == "app_survey":
            for app, state in (result.result.get("apps") or {}).items():
                self.story.was_live(app, state.get("live") or "")
        elif result.task.action == "app_phase" and _settles(result.task.args):
            self.story.settled(str(result.task.args.get("app")), result.host.get_name())


def _settles(phase: Mapping[str, Any]) -> bool:
    """Whether a phase ends a run that went well."""
    return "settle" in phase and not phase["settle"].get("reason")


def _place(task: Any) -> str:
    path, _, number = (task.get_path() or "").rpartition(":")
    return f"{shown(Path(path))}:{number}" if path else ""


def _rescued(task: Any) -> bool:
    """Whether the task is in the block of a rescue."""
    parent, child = task._parent, task  # noqa: SLF001  what a task is part of is known nowhere else
    while parent is not None:
        if isinstance(parent, Block) and parent.rescue and not _among(child, [*parent.rescue, *parent.always]):
            return True
        parent, child = getattr(parent, "_parent", None), parent
    return False


def _among(child: Any, tasks: list[Any]) -> bool:
    names = {each._uuid for each in tasks}  # noqa: SLF001  copies of a task are other objects
    return child._uuid in names  # noqa: SLF001
