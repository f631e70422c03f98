"""Ansible module: put restored files in the place of what is used."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: restored_files
short_description: Put restored files in the place of what is used
description:
  - Stops units, makes C(PATH) C(PATH.before) and C(PATH.restored) C(PATH), and starts the units that ran.
  - For an app the path is its C(data), and the units are all that it has. Its restored history of releases, C(history.jsonl.restored),
    becomes the host's where it has none.
  - May be interrupted at any moment and run again. A C(PATH.before) of an earlier time is removed first, not before there is something to put in place.
options:
  app:
    description: Name of an app whose files these are.
    type: str
  path:
    description: A directory, where they are of no app.
    type: str
  unit:
    description: The unit that uses it, where they are of no app.
    type: str
"""

ROOT = Path("/srv/apps")


def swap(used: Path) -> bool:
    """Put what was restored in the place of what is used; whether there was something."""
    restored, before = (used.with_name(f"{used.name}.{end}") for end in ("restored", "before"))
    if not restored.is_dir():
        return False
    if used.exists():
        if before.exists():
            shutil.rmtree(before)
        used.rename(before)
    # An earlier run that was interrupted here has moved the old one already.
    restored.rename(used)
    return True


def begin_history(place: Path) -> bool:
    """Put a restored history where the host has none; whether it did."""
    history, restored = place / "history.jsonl", place / "history.jsonl.restored"
    if not restored.exists():
        return False
    if history.exists():
        restored.unlink()
        return False
    restored.rename(history)
    return True


def units_of(app: str) -> list[str]:
    """Return the app's units that run, and those that start with the host: an interrupted run has stopped these."""
    done = subprocess.run(
        ["systemctl", "list-units", "--plain", "--no-legend", "--state=active,activating", f"uwsgi-emperor@{app}-*"],
        capture_output=True,
        text=True,
        check=True,
    )
    wanted = {path.name for path in Path("/etc/systemd/system").glob(f"*.wants/uwsgi-emperor@{app}-*.service")}
    return sorted({line.split()[0] for line in done.stdout.splitlines() if line} | wanted)


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={"app": {"type": "str"}, "path": {"type": "str"}, "unit": {"type": "str"}},
        required_one_of=[("app", "path")],
        mutually_exclusive=[("app", "path"), ("app", "unit")],
        required_together=[("path", "unit")],
    )
    app = module.params["app"]
    used = ROOT / app / "data" if app else Path(module.params["path"])
    units = units_of(app) if app else [module.params["unit"]]
    changed, problem = False, ""
    try:
        for unit in units:
            subprocess.run(["systemctl", "stop", unit], check=True, capture_output=True, text=True)
        changed = swap(used)
        changed = (bool(app) and begin_history(ROOT / app)) or changed
    except (OSError, subprocess.CalledProcessError) as error:
        problem = f"{used} is as it was: {error}"
    for unit in units:
        done = subprocess.run(["systemctl", "start", unit], check=False, capture_output=True, text=True)
        if done.returncode:
            problem = f"{problem} {unit} does not start: {done.stderr.strip()}".strip()
    if problem:
        module.fail_json(msg=problem, changed=changed)
    module.exit_json(changed=changed, units=units)


if __name__ == "__main__":
    main()
