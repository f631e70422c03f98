"""Directories with an owner and a mode."""

from __future__ import annotations

import grp
import os
import pwd
from pathlib import Path
from typing import Any

from .layout import ReleaseError


def work(
    *, check: bool, paths: list[str], mode: str = "0755", owner: str = "root", group: str = "root"
) -> dict[str, Any]:
    """Make the directories of `paths` where they are missing, and give them mode, owner and group. What is in them is not touched.

    Raises:
        ReleaseError: there is something else in such a place, or no such owner or group.
    """
    try:
        ids = (pwd.getpwnam(owner).pw_uid, grp.getgrnam(group).gr_gid)
    except KeyError as error:
        raise ReleaseError(f"{', '.join(paths)}: {error.args[0]}") from None
    found = {path: _state(Path(path)) for path in paths}
    wrong = [path for path in paths if found[path] != (int(mode, 8), *ids)]
    for path in map(Path, wrong if not check else []):
        path.mkdir(mode=0o755, parents=True, exist_ok=True)
        # The owner first: a change of owner takes away bits of the mode.
        os.chown(path, *ids)
        path.chmod(int(mode, 8))
    after = f"{int(mode, 8):04o} {ids[0]}:{ids[1]}\n"
    diff = [
        {"before_header": path, "after_header": path, "before": _told(found[path]), "after": after} for path in wrong
    ]
    return {"changed": bool(wrong), "made": wrong, "diff": diff}


def _state(path: Path) -> tuple[int, int, int] | None:
    """Mode, owner and group; none where there is nothing."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    if not path.is_dir():
        raise ReleaseError(f"{path} is no directory, and one is to be made there")
    return status.st_mode & 0o7777, status.st_uid, status.st_gid


def _told(state: tuple[int, int, int] | None) -> str:
    return f"{state[0]:04o} {state[1]}:{state[2]}\n" if state else ""
