"""Ansible module: a systemd unit that is enabled, runs, and runs with the files as they are now."""

from __future__ import annotations

import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: current_unit
short_description: Run a systemd unit with its present files
description:
  - Enables and starts a unit. Restarts or reloads it when one of its files is younger than its last start or reload.
  - Does the work of a handler, without its gap - a run that is interrupted after it wrote a file never notifies again, this module
    sees at the next run that the service does not know the file yet.
  - Fails with the end of the journal when the unit does not stay up.
  - In check mode a unit that is not there yet is a change, not an error.
options:
  name:
    description: The unit.
    type: str
    required: true
  restart_on:
    description: Files that the unit reads when it starts; its own and its drop-ins among them.
    type: list
    elements: path
    default: []
  reload_on:
    description: Files and directories that the unit reads when it is reloaded; C(*) stands for any name.
    type: list
    elements: path
    default: []
  retries:
    description: Whether the unit may be waiting for its next start, because it ends while another host is away.
    type: bool
    default: false
"""

RETURN = r"""
actions:
  description: What was done, in order - enable, start, restart, reload.
  type: list
  elements: str
"""

_PROPERTIES = "LoadState,UnitFileState,ActiveState,ActiveEnterTimestamp,StateChangeTimestamp"
_SETTLED_S = 0.7


def parse_show(text: str) -> dict[str, str]:
    """Read the lines of ``systemctl show``."""
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


def parse_time(text: str) -> float:
    """Read a time as ``--timestamp=us+utc`` writes it; 0 for a time that never was."""
    if not text or text == "n/a":
        return 0.0
    return datetime.strptime(text, "%a %Y-%m-%d %H:%M:%S.%f %Z").replace(tzinfo=UTC).timestamp()


def up(*, retries: bool) -> set[str]:
    """Name the states in which a unit does its work; waiting for its next start is one, if it may."""
    return {"active", "reloading"} | ({"activating"} if retries else set())


def decide(
    shown: dict[str, str], restart_on: list[float], reload_on: list[float], *, retries: bool = False
) -> list[str]:
    """Name what must be done to a unit, given what systemd says about it and the times at which its files were changed."""
    actions = ["enable"] if shown.get("UnitFileState") in {"disabled", ""} else []
    started = parse_time(shown.get("ActiveEnterTimestamp", ""))
    # A reload changes the state twice, and the start before it once.
    loaded = parse_time(shown.get("StateChangeTimestamp", ""))
    if shown.get("ActiveState") not in up(retries=retries):
        actions.append("start")
    elif max(restart_on, default=0.0) > started:
        actions.append("restart")
    elif max(reload_on, default=0.0) > loaded:
        actions.append("reload")
    return actions


def _systemctl(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {"LC_ALL": "C", "PATH": "/usr/bin:/bin"}
    return subprocess.run(["systemctl", *arguments], capture_output=True, text=True, check=False, env=environment)


def _show(unit: str) -> dict[str, str]:
    return parse_show(_systemctl("show", "--timestamp=us+utc", f"--property={_PROPERTIES}", unit).stdout)


def _changed_at(files: list[str]) -> list[float]:
    """Return when files were changed; one that is dated ahead, by a clock that was wrong, would be younger than every start."""
    times = [path.stat().st_mtime for pattern in files for path in Path("/").glob(pattern.lstrip("/"))]
    return [0.0 if changed > time.time() else changed for changed in times]


def _journal(unit: str) -> str:
    command = ["journalctl", "--no-pager", "--quiet", "--lines=15", "--output=cat", f"--unit={unit}"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def _apply(unit: str, actions: list[str], *, retries: bool) -> str:
    """Do what was decided; an empty string, or what went wrong."""
    if actions != ["reload"]:
        # Always: systemd 252 says NeedDaemonReload=no of a drop-in in a directory that is new.
        _systemctl("daemon-reload")
        state = _show(unit)["LoadState"]
        if state != "loaded":
            return f"there is no {unit} that could be loaded: {state}"
    for action in actions:
        done = _systemctl(action, unit)
        if done.returncode:
            return f"systemctl {action} {unit}: {done.stderr.strip()}\n{_journal(unit)}"
    if {"start", "restart"} & set(actions):
        # A simple service is "active" as soon as it is forked, whatever becomes of it.
        time.sleep(_SETTLED_S)
        state = _show(unit)["ActiveState"]
        if state not in up(retries=retries):
            return f"{unit} does not stay up, it is {state}:\n{_journal(unit)}"
    return ""


def main() -> None:
    """Run as an Ansible module."""
    paths = {"type": "list", "elements": "path", "default": []}
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "restart_on": paths,
            "reload_on": paths,
            "retries": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    unit: str = module.params["name"]
    retries: bool = module.params["retries"]
    changed = (_changed_at(module.params[key]) for key in ("restart_on", "reload_on"))
    actions = decide(_show(unit), *changed, retries=retries)
    if actions and not module.check_mode:
        error = _apply(unit, actions, retries=retries)
        if error:
            module.fail_json(msg=error, actions=actions)
    module.exit_json(changed=bool(actions), actions=actions)


if __name__ == "__main__":
    main()
