"""PostgreSQL: connections whose every wait has an end, also when the server says nothing more.

`statement_timeout` is kept by the server, so a server that is frozen, or whose host is gone, does not keep it. Here
each wait ends on our side too, and the connection with it: a late answer would be taken for the next statement's.
"""

import logging
import math
import threading
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar

import psycopg
import sqlalchemy
from sqlalchemy import create_engine, event
from sqlalchemy.engine import URL, Dialect
from sqlalchemy.exc import OperationalError

from api.config.model import Database as Settings

if TYPE_CHECKING:
    from psycopg.abc import PQGen

Result = TypeVar("Result")

_log = logging.getLogger(__name__)

_LEAST_S = 0.1  # a wait; a deadline that our own work has missed is no reason to lose a connection
_SLOW_S = 1.0  # a server that is there takes or refuses a connection sooner


class LateError(psycopg.errors.QueryCanceled):
    """The server has not answered in time, and this side has given up."""


class Connection(psycopg.Connection[tuple[Any, ...]]):
    """A connection that waits for its server until `until`, in seconds as `monotonic` counts them."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.made = monotonic()
        self.until = math.inf
        self.used = False

    def wait(self, gen: "PQGen[Result]", interval: float = 0.1, timeout: float | None = None) -> Result:
        """Wait as every operation of a connection does, but not for longer than until `until`."""
        left = max(_LEAST_S, self.until - monotonic())
        try:
            return super().wait(gen, interval, left if timeout is None else min(left, timeout))
        except psycopg.OperationalError as error:
            if error.sqlstate is None and monotonic() >= self.until:
                self.pgconn.finish()
                _log.warning("the database did not answer in time; the connection was closed")
                raise LateError("the server did not answer in time") from None
            raise

    def is_read_only(self) -> bool:
        """Whether the server says that this session cannot write. Before PostgreSQL 14 it does not say so by itself."""
        said = self.info.parameter_status
        return "on" in {said("default_transaction_read_only"), said("in_hot_standby")}


class Server:
    """A server and the pool of this process' connections to it.

    `limit_s()` is how long a transaction that begins now may take. `silent()` is called when no connection was to be
    had, and the server did not say so at once.
    """

    def __init__(
        self, target: URL, settings: Settings, limit_s: Callable[[], float], silent: Callable[[], None]
    ) -> None:
        self._limit_s = limit_s
        self._silent = silent
        self._patience_s = settings.connect_timeout_s
        self._trusted_since = 0.0
        self.engine = create_engine(
            target,
            pool_size=settings.pool_size,
            max_overflow=0,
            connect_args=connect_args(target, settings) | {"autocommit": True},  # `_begin` says BEGIN itself
        )
        event.listen(self.engine, "do_connect", self._connect)
        event.listen(self.engine, "begin", self._begin)

    def distrust(self) -> None:
        """Use no connection again that exists now."""
        self._trusted_since = monotonic()

    def _connect(self, _: Dialect, __: object, arguments: tuple[str, ...], more: dict[str, Any]) -> Connection:
        started = monotonic()
        left = self._limit_s()
        try:
            connection = connect_within(left, *arguments, **more)
        except psycopg.Error:
            if monotonic() - started >= _SLOW_S:
                self._silent()
            raise
        connection.until = monotonic() + min(left, self._patience_s)
        return connection

    def _begin(self, connection: sqlalchemy.Connection) -> None:
        try:
            self._start(connection)
        except psycopg.Error as error:
            raise OperationalError("BEGIN", None, error) from error

    def _start(self, connection: sqlalchemy.Connection) -> None:
        """Begin a transaction, and learn in the same round trip whether the connection still is one."""
        left = self._limit_s()
        spare = min(0.1, left / 20)  # the server's own limit comes first, and leaves time to roll back
        end = monotonic() + left - spare
        begin = f"BEGIN; SET LOCAL statement_timeout = {math.ceil((left - 2 * spare) * 1000)}".encode()
        write = connection.get_execution_options().get("write", False)
        while True:
            driver = connection.connection.driver_connection
            if not isinstance(driver, Connection):
                raise TypeError(f"expected a connection of our own, found {driver!r}")
            if driver.used and (driver.made < self._trusted_since or (write and driver.is_read_only())):
                connection.invalidate()
                continue
            driver.until = min(end, monotonic() + self._patience_s)
            try:
                driver.execute(begin)
            except psycopg.Error as error:
                connection.invalidate()
                late = isinstance(error, LateError)
                if late:
                    self.distrust()  # the others wait for the same server
                if driver.used:
                    continue
                if late:
                    self._silent()
                    raise psycopg.errors.ConnectionTimeout("connected, and then no answer") from None
                raise
            driver.used = True
            driver.until = end
            return


def connect_args(target: URL, settings: Settings) -> dict[str, Any]:
    """What libpq is to be told unless the URL says something else: when a host that says nothing counts as gone."""
    wanted = {
        "connect_timeout": settings.connect_timeout_s,
        "tcp_user_timeout": settings.connect_timeout_s * 1000,
        "keepalives_idle": 10,
        "keepalives_interval": 3,
        "keepalives_count": 3,
    }
    return {name: value for name, value in wanted.items() if name not in target.query}


def connect_within(seconds: float, *arguments: str, **more: Any) -> Connection:
    """Connect in a thread: nothing else ends the look-up of a host's name, and each of its addresses has a timeout."""
    future: Future[Connection] = Future()
    threading.Thread(target=_connect, args=(future, arguments, more), name="database-connect", daemon=True).start()
    try:
        return future.result(seconds)
    except TimeoutError:
        if future.cancel():
            raise psycopg.errors.ConnectionTimeout("no connection in time") from None
        return future.result()


def _connect(future: "Future[Connection]", arguments: tuple[str, ...], more: dict[str, Any]) -> None:
    try:
        connection = Connection.connect(*arguments, **more)
    except Exception as error:  # noqa: BLE001 (it is raised where the connection is waited for)
        with suppress(InvalidStateError):
            future.set_exception(error)
        return
    try:
        future.set_result(connection)
    except InvalidStateError:
        connection.close()  # nobody waits any more
