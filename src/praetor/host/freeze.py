"""Forbid releases of an app until a time, or allow them again."""

from __future__ import annotations

import json
import re
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from .layout import AppHost, ReleaseError, write_atomically

if TYPE_CHECKING:
    from praetor.documents import Freeze

_UNITS = {"m": "minutes", "h": "hours", "d": "days"}


def moment(text: str, now: datetime) -> datetime:
    """A time from ISO 8601 (UTC where it names no zone) or from now: +90m, +2h, +3d.

    Raises:
        ValueError: neither.
    """
    span = re.fullmatch(r"\+(\d+)([mhd])", text)
    if span:
        return now + timedelta(**{_UNITS[span[2]]: int(span[1])})
    found = datetime.fromisoformat(text)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def work(
    *, app: str, until_time: str = "", reason: str = "", by: str = "", thaw: bool = False, check: bool = False
) -> dict[str, object]:
    """Write the freeze of an app, or remove it (`thaw`); `check` only says what would change."""
    path = AppHost(app).root / "freeze.json"
    if thaw:
        existed = path.exists()
        if not check:
            path.unlink(missing_ok=True)
        return {"changed": existed}
    try:
        until = moment(until_time, datetime.now(tz=UTC))
    except ValueError:
        raise ReleaseError(
            f"until_time={until_time}: expected a time such as 2026-12-24T18:00 (UTC), or +90m, +2h, +3d"
        ) from None
    if until.timestamp() <= time.time():
        raise ReleaseError(f"until_time={until_time}: that is over already")
    if not reason.strip():
        raise ReleaseError(
            'reason is missing: say why with -e reason="..."; everybody whose release is refused will read it'
        )
    freeze: Freeze = {"until": until.timestamp(), "reason": reason, "by": by}
    if not check:
        write_atomically(path, json.dumps(freeze) + "\n", 0o644)
    return {"changed": True, "until": until.isoformat()}
