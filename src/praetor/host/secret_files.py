"""Files that only their owner and its group may read, and whose texts are never shown."""

from __future__ import annotations

import grp
from pathlib import Path
from typing import Any

from .layout import write_atomically


def work(*, check: bool, secrets: dict[str, str], group: str = "root", mode: str = "0600") -> dict[str, Any]:
    """Write `secrets`, texts by their paths, where they differ.

    Returns:
        `written`: their paths.
    """
    ids = (0, grp.getgrnam(group).gr_gid)
    wrong = [path for path, text in secrets.items() if _state(Path(path)) != (text, int(mode, 8), *ids)]
    for path in wrong if not check else []:
        Path(path).parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        write_atomically(Path(path), secrets[path], int(mode, 8), *ids)
    return {"changed": bool(wrong), "written": wrong}


def _state(path: Path) -> tuple[str, int, int, int] | None:
    try:
        status = path.stat()
        return path.read_text(encoding="utf-8"), status.st_mode & 0o7777, status.st_uid, status.st_gid
    except OSError:
        return None
