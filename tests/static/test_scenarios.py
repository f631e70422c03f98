"""Scenarios that run by name only are loaded here as pytest loads them there: one that cannot begin is seen before a night on which it is needed."""

import subprocess
import sys
from pathlib import Path

import pytest
from project import ROOT

NO_TESTS = pytest.ExitCode.NO_TESTS_COLLECTED
OWN_TESTS = sorted(path.parent for path in (ROOT / "molecule").glob("*/conftest.py"))


@pytest.mark.parametrize("scenario", OWN_TESTS, ids=lambda path: path.name)
def test_what_a_scenario_shares_is_loaded(scenario: Path) -> None:
    # Its tests ask for its hosts as soon as they are collected.
    command = [
        sys.executable,
        "-m",
        "pytest",
        "--collect-only",
        "-q",
        "-p",
        "no:cacheprovider",
        "--ignore-glob=*/test_*.py",
    ]
    done = subprocess.run([*command, str(scenario)], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == NO_TESTS, done.stdout + done.stderr
