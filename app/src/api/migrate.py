"""Bring the database to the schema that this code needs: `python -m api.migrate`. Run again, it changes nothing.

On PostgreSQL a migration that waits for a lock makes all requests for that table wait behind it. So it waits for a
moment only, gives up, lets them pass, and tries again.
"""

import gc
import logging
import os
import sys
import time
from dataclasses import dataclass, field
from time import monotonic

from alembic import command
from alembic.config import Config
from sqlalchemy.exc import OperationalError

from api import logs
from api.config import ConfigError, Loaded, load

_log = logging.getLogger("api.migrate")

_PAUSE_S = 2.0  # between two attempts; those who waited behind the last one are through in a fraction of it
# PostgreSQL's SQLSTATEs: of a statement that ran into lock_timeout, of one that took too long.
_LOCK_NOT_AVAILABLE = "55P03"
_QUERY_CANCELED = "57014"


@dataclass
class Attempt:
    """One attempt: until when (monotonic seconds) it must have ended, and which locks it has waited for in the end.

    Of each lock: what is locked, who has it, and the id of that process.
    """

    loaded: Loaded
    end: float
    waits: list[tuple[str, str, int | None]] = field(default_factory=list)

    def left_s(self) -> float:
        """Seconds that are left; 0 if none are."""
        return max(0.0, self.end - monotonic())


def main() -> int:
    """Run all missing migrations; returns the exit code."""
    try:
        loaded = load(os.environ)
    except ConfigError as error:
        for mistake in error.mistakes:
            sys.stderr.write(f"{mistake}\n")
        return 1
    logs.configure("info", app=loaded.identity.name, release=loaded.identity.release)
    limit_s = loaded.settings.database.migration_s
    end = monotonic() + limit_s
    while True:
        attempt = Attempt(loaded, end)
        try:
            command.upgrade(configure(loaded, attempt), "head")
        except BlockingIOError:
            return _failed(f"another migration has not ended within {limit_s:g} s")
        except OperationalError as error:
            state = getattr(error.orig, "sqlstate", None)
            if state == _QUERY_CANCELED or (state == _LOCK_NOT_AVAILABLE and attempt.left_s() <= _PAUSE_S):
                return _failed(f"not done within {limit_s:g} s", **_waits(attempt))
            if state != _LOCK_NOT_AVAILABLE:
                return _failed(str(error.orig).strip())
            found = _waits(attempt) | {"left_s": round(attempt.left_s())}
            _log.warning("migration waits for a lock; the running release goes on serving", extra=found)
            time.sleep(_PAUSE_S)
        else:
            return 0


def configure(loaded: Loaded, attempt: Attempt | None = None) -> Config:
    """What alembic needs to know; there is no alembic.ini, because a wheel has none."""
    # In production the platform made it, here the first migration does.
    loaded.identity.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    attempt = attempt or Attempt(loaded, monotonic() + loaded.settings.database.migration_s)
    config = Config(stdout=sys.stderr, attributes={"attempt": attempt})
    config.set_main_option("script_location", "api:migrations")
    config.set_main_option("path_separator", "os")
    return config


def _failed(reason: str, **more: object) -> int:
    _log.critical("migration failed; the running release goes on serving", extra={"reason": reason, **more})
    return 1


def _waits(attempt: Attempt) -> dict[str, object]:
    if not attempt.waits:
        return {}
    pids = sorted({pid for _, _, pid in attempt.waits if pid})
    return {
        "waits_for": sorted({what for what, _, _ in attempt.waits}),
        "held_by": sorted({who for _, who, _ in attempt.waits}),
        "to_end_them": " ".join(f"SELECT pg_terminate_backend({pid});" for pid in pids),
    }


if __name__ == "__main__":
    status = main()
    gc.freeze()  # or the interpreter looks for garbage before it ends
    sys.exit(status)
