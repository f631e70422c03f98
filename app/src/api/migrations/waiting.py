"""What a migration on PostgreSQL waits for, and who has it: asked by a second connection while the first one waits."""

import logging
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

    from api.postgresql import Connection

_log = logging.getLogger("api.migrate")

# Without anybody's statements: they may hold data, and this is logged.
_WAITS = b"""
SELECT coalesce(l.relation::regclass::text, CASE l.locktype WHEN 'advisory' THEN 'the end of another migration'
                                                            ELSE l.locktype END) || ' (' || l.mode || ')',
       CASE WHEN a.pid IS NULL THEN 'a prepared transaction'
            ELSE 'process ' || a.pid || ' of user ' || coalesce(a.usename, 'unknown')
                 || coalesce(', ' || nullif(a.application_name, ''), '') || coalesce(', ' || host(a.client_addr), '')
                 || coalesce(', ' || a.state, '')
                 || coalesce(', in a transaction for ' || round(extract(epoch FROM now() - a.xact_start)) || ' s', '')
       END,
       a.pid
FROM pg_locks l CROSS JOIN LATERAL unnest(pg_blocking_pids(l.pid)) AS b (pid)
LEFT JOIN pg_stat_activity a ON a.pid = b.pid
WHERE l.pid = %s AND NOT l.granted
"""


class Watch:
    """Looks again and again what the backend `pid` waits for. `found` is the last that was seen."""

    def __init__(self, connect: "Callable[[], Connection]", pid: int, every_s: float) -> None:
        self.found: list[tuple[str, str, int | None]] = []
        self._connect = connect
        self._pid = pid
        self._every_s = every_s
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="migration-watch", daemon=True)

    def __enter__(self) -> "Self":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: "TracebackType | None"
    ) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        if self._over.wait(self._every_s):
            return  # most migrations are done by now, and need no second connection
        try:
            with self._connect() as connection:
                self._look(connection)
                while not self._over.wait(self._every_s):
                    self._look(connection)
        except Exception:  # noqa: BLE001 (the migration itself can go on)
            _log.warning("cannot see what the migration waits for", exc_info=True)

    def _look(self, connection: "Connection") -> None:
        if rows := connection.execute(_WAITS, (self._pid,)).fetchall():
            self.found = [(str(what), str(who), pid) for what, who, pid in rows]
