"""Ansible module: put restored files in the place of an app's data."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: app_files
short_description: Put restored files in the place of an app's data
description:
  - Stops the app's units on the host, makes C(data) C(data.before) and C(data.restored) C(data), and starts the units that ran.
  - May be interrupted at any moment and run again. A C(data.before) of an earlier time is removed first, not before there is something to put in place.
options:
  app:
    description: Name of the app.
    type: str
    required: true
"""

ROOT = Path("/srv/apps")


def swap(place: Path) -> bool:
    """Put C(data.restored) in the place of C(data); whether there was one."""
    data, restored, before = (place / name for name in ("data", "data.restored", "data.before"))
    if not restored.is_dir():
        return False
    if data.exists():
        if before.exists():
            shutil.rmtree(before)
        data.rename(before)
    # An earlier run that was interrupted here has moved the old one already.
    restored.rename(data)
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
    module = AnsibleModule(argument_spec={"app": {"type": "str", "required": True}})
    app = module.params["app"]
    units = units_of(app)
    changed, problem = False, ""
    try:
        for unit in units:
            subprocess.run(["systemctl", "stop", unit], check=True, capture_output=True, text=True)
        changed = swap(ROOT / app)
    except (OSError, subprocess.CalledProcessError) as error:
        problem = f"{app} goes on with what it had: {error}"
    for unit in units:
        done = subprocess.run(["systemctl", "start", unit], check=False, capture_output=True, text=True)
        if done.returncode:
            problem = f"{problem} {unit} does not start: {done.stderr.strip()}".strip()
    if problem:
        module.fail_json(msg=problem, changed=changed)
    module.exit_json(changed=changed, units=units)


if __name__ == "__main__":
    main()
