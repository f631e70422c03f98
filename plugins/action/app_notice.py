"""Tells whom the inventory's `release_notify` names what a run does, and runs its `release_hooks`; contacts no host."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase

from praetor.build.cache import place
from praetor.inventory.notices import EventName, Notices, plain
from praetor.run.notices import Event, commits, run_hooks, since, tell
from praetor.run.story import shown

LONGEST_REASON = 500


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core has no types
    """Arguments: `event`, one of start, success, failure, or `hook`, before_build or after_build; `action` of the run or `run` itself.

    Of a release also `release`, as the plan has it; `register`, the variable with each host's survey; `apps` and `root` of the inventory, for
    the commits; `failure`, see app_failure.

    A hook that fails before something begins fails the task. Whatever fails later is a warning.
    """

    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Tell, and run."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        variables, args = task_vars or {}, self._task.args
        given = {
            name: plain(self._templar.template, variables[name])
            for name in ("release_notify", "release_hooks")
            if variables.get(name)
        }
        if not given or variables["ansible_check_mode"]:
            return {**result, "skipped": True, "skip_reason": "nobody wants to know"}
        notices = Notices.model_validate(given)
        event = _event(args, variables)
        root = Path(args["root"])
        hook = args.get("hook") or _hook(event)
        commands = getattr(notices.release_hooks, hook, [])
        if not commands and (args.get("hook") or not notices.release_notify):
            return {**result, "skipped": True, "skip_reason": "nobody wants to know"}
        begins = hook.startswith("before_")
        problem = run_hooks(hook, commands, event, root) if begins else ""
        if problem:
            event |= {"event": "failure", "reason": problem.partition("\n")[0]}
        told = [] if args.get("hook") else tell(notices.release_notify, event, root)
        if not begins:
            problem = run_hooks(hook, commands, event, root)
            told += [f"{problem}. The run goes on."] if problem else []
            problem = ""
        result = {**result, "changed": False, "warnings": told}
        if problem:
            first, _, more = problem.partition("\n")
            return {**result, "failed": True, "msg": f"{first}. No host was changed.\n{more}".strip()}
        return result


def _hook(event: Event) -> str:
    """The hook that belongs to an event."""
    match event["event"]:
        case "start":
            return f"before_{event['action']}"
        case "failure":
            return "failure"
        case _:
            return f"after_{event['action']}"


def _event(args: Mapping[str, Any], variables: Mapping[str, Any]) -> Event:
    run, release = args.get("run") or {}, args.get("release") or {}
    action, app = (
        str(run.get("action") or args.get("action") or "build"),
        str(release.get("app") or args.get("app") or ""),
    )
    hosts = [str(host) for host in variables["ansible_play_hosts_all"]]
    states = [
        (variables["hostvars"][host].get(args.get("register")) or {}).get("apps", {}).get(app) or {} for host in hosts
    ]
    before = {str(state.get("live") or "") for state in states}
    failure = args.get("failure") or {}
    problem = next(iter((failure.get("reasons") or {}).values()), "")
    reason = " ".join(f"{failure['what']}: {problem}".split()).removesuffix(":") if failure else ""
    inventory = shown(Path(str((variables.get("ansible_inventory_sources") or ["INVENTORY"])[0])))
    owner = run.get("owner") or {}
    ended_well: EventName = "rollback" if action == "rollback" else "success"
    events: dict[str, EventName] = {"start": "start", "failure": "failure", "success": ended_well}
    return {
        "event": events[args.get("event", "start")],
        "action": action,
        "app": app,
        "release": str(release.get("id") or ""),
        "before": before.pop() if len(before) == 1 else "",
        "hosts": hosts,
        "commits": _commits(
            app, release, states, {**args, "cache": variables.get("release_cache") or "~/.cache/praetor"}
        ),
        "reason": reason[:LONGEST_REASON],
        "by": f"{owner['user']}@{owner['host']}" if owner else "",
        "why": str(run.get("why") or ""),
        "inventory": inventory,
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "duration_s": since(run["id"]) if run else 0,
        "history": f"ansible-playbook playbooks/history.yml -i {inventory} -e app={app}",
    }


def _commits(app: str, release: Mapping[str, Any], states: list[dict[str, Any]], args: Mapping[str, Any]) -> list[str]:
    """The commits between what was live and what is released, where the controller has the repository."""
    new = (release.get("manifest") or {}).get("commit")
    old = next((state["manifest"]["commit"] for state in states if state.get("manifest")), None)
    source: Mapping[str, str] = next((each["source"] for each in args.get("apps") or [] if each["name"] == app), {})
    if source.get("git"):
        mirror = place(args["cache"]) / "git" / hashlib.sha256(source["git"].encode()).hexdigest()[:16]
        return commits(mirror, old, new, source.get("subdir") or ".")
    if source.get("path"):
        return commits(Path(args["root"]) / source["path"], old, new)
    return []
