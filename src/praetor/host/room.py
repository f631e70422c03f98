"""Checks whether a file system has enough room."""

from __future__ import annotations

import os
from typing import Any

from .layout import ReleaseError


def work(*, check: bool, path: str, mib: int, why: str) -> dict[str, Any]:
    """Refuse a host where the file system of `path` has fewer than `mib` MiB for others than root; `why` they are needed is the message.

    Raises:
        ReleaseError: it has fewer.
    """
    del check
    status = os.statvfs(path)
    has = status.f_bavail * status.f_frsize // 1048576
    if has < mib:
        raise ReleaseError(f"{why.strip()} It has {has} MiB.")
    return {"mib": has}
