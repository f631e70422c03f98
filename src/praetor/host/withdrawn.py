"""What a role wrote and nobody wants any more."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from .layout import ReleaseError


def work(*, check: bool, files: list[str], units: list[str], run: list[list[str]]) -> dict[str, Any]:
    """Where the last of `files` is there, stop and disable `units`, remove the files in their order, and run the commands of `run`.

    A run that is interrupted finds the last one again. Where it is not there, all else belongs to others and is left alone.

    Raises:
        ReleaseError: what a command said.
    """
    if not Path(files[-1]).exists():
        return {"changed": False}
    if not check:
        for command in [["systemctl", "disable", "--now", unit] for unit in units]:
            _do(command)
        for path in files:
            Path(path).unlink(missing_ok=True)
        for command in run:
            _do(command)
    return {"changed": True, "removed": files}


def _do(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise ReleaseError(f"{' '.join(command)} ended with {done.returncode}: {done.stderr.strip()}")
