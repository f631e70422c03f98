"""Scripts as root on a host, and playbooks as an operator runs them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from project import ROOT

SCENARIO = ROOT / "molecule" / "security"
INVENTORY = SCENARIO / "inventory"
ENVIRONMENT = {
    **os.environ,
    "ANSIBLE_FORCE_COLOR": "0",  # Molecule forces it
    "ANSIBLE_NOCOLOR": "1",
    "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
}
PATIENCE_S = 900


def run(*command: str, stdin: str | None = None, tree: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run a command in the checkout, or in a copy of it."""
    return subprocess.run(
        command,
        cwd=tree,
        env={**ENVIRONMENT, "ANSIBLE_CONFIG": str(tree / "ansible.cfg")},
        input=stdin or "",
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )


def play(name: str, *arguments: str, tree: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run a playbook of the checkout, or of a copy of it."""
    return run("ansible-playbook", f"playbooks/{name}.yml", "-i", str(INVENTORY), *arguments, tree=tree)


def recap(done: subprocess.CompletedProcess[str], host: str) -> str:
    """Return what the last lines of a playbook say about a host."""
    return next(line for line in done.stdout.splitlines() if line.startswith(f"{host} ") and "ok=" in line)


def as_root(settings: dict[str, Any], script: str, *arguments: str) -> str:
    """Run a Python script as root on a host. It goes by stdin, so that nothing of it is in a command line or in sudo's log."""
    ssh = [
        "ssh",
        "-oControlPath=none",
        *settings["ssh_args"].split(),
        "-i",
        settings["key"],
        "-p",
        str(settings["port"]),
    ]
    place = f"{settings['user']}@{settings['address']}"
    done = run(*ssh, place, "sudo", "python3", "-", *arguments, stdin=script)
    assert done.returncode == 0, done.stderr
    return done.stdout
