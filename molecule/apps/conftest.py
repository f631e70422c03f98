"""Each app is released when its first test begins, on all hosts at once; one that cannot be leaves the others alone."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from client import Site
from project import ROOT
from visitor import Visitor

pytest_plugins = ["hosts"]

RELEASED: dict[str, str] = {}


def released(app: str, inventory: Path) -> str:
    """Release an app, once; what an operator reads if that fails, or nothing."""
    if app not in RELEASED:
        try:
            command = [
                str(Path(sys.executable).with_name("ansible-playbook")),
                "playbooks/release.yml",
                "-i",
                str(inventory),
            ]
            environment = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_FORCE_COLOR": "0"}
            done = subprocess.run(
                [*command, "-e", f"app={app}"],
                cwd=ROOT,
                env=environment,
                capture_output=True,
                text=True,
                check=False,
                timeout=1800,
            )
            RELEASED[app] = done.stdout + done.stderr if done.returncode else ""
        except subprocess.TimeoutExpired as error:
            RELEASED[app] = str(error)
    return RELEASED[app]


@pytest.fixture
def visit(site: Site, pytestconfig: pytest.Config) -> Callable[[str], Visitor]:
    """Return a function that releases an app and visits it."""

    def visitor(app: str) -> Visitor:
        said = released(app, Path(pytestconfig.getoption("--ansible-inventory")))
        assert not said, said[-6000:]
        return Visitor(Site(site.address, site.context, timeout_s=90), f"{app}.lab.example")

    return visitor
