"""Programs that a build runs on the controller."""

from __future__ import annotations

import pathlib
import re
import subprocess
import sys
from collections.abc import Mapping

from praetor.host.layout import ReleaseError

_CREDENTIALS = re.compile(r"(://)[^/@\s'\"]+@")

# pip, of each package that a directory among its indexes does not have.
_NO_MATTER = re.compile(r"WARNING: Location '.*' is ignored")


def run(
    command: list[str], failure: str, *, env: Mapping[str, str] | None = None, cwd: pathlib.Path | None = None
) -> str:
    """Run a program and return what it printed.

    Raises:
        ReleaseError: it failed; with the last lines that it printed, without the credentials of addresses.
    """
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env, cwd=cwd, errors="replace")
    if done.returncode != 0:
        raise ReleaseError(f"{failure}:\n{last_lines(done.stderr or done.stdout)}")
    return done.stdout


def last_lines(printed: str, count: int = 20) -> str:
    """The end of what a program printed, without the credentials of addresses."""
    told = [line for line in printed.strip().splitlines() if not _NO_MATTER.match(line)]
    return without_credentials("\n".join(told[-count:]))


def without_credentials(text: str) -> str:
    """Leave user names and passwords out of addresses: what is shown or kept has none."""
    return _CREDENTIALS.sub(r"\1", text)


def tool(name: str) -> str:
    """A program of the controller's virtualenv."""
    return str(pathlib.Path(sys.prefix) / "bin" / name)
