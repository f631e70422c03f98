"""Make the reports that were asked for: `python -m api.worker`. Asked to end, it finishes what it is doing.

SIGTERM and SIGINT are blocked and asked for between two reports, so that neither interrupts one.
"""

import logging
import os
import signal
import socket
import sys
from datetime import timedelta

from api import logs
from api.config import ConfigError, load
from api.config.model import Reports
from api.context import DeadlineExceededError
from api.database import Database, UnavailableError
from api.domain import reports

_log = logging.getLogger("api.worker")

_STOP = {signal.SIGTERM, signal.SIGINT}
_PAUSE_S = 5.0  # after something went wrong


def main() -> int:
    """Work until asked to end; returns the exit code."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _STOP)
    try:
        loaded = load(os.environ)
    except ConfigError as error:
        for mistake in error.mistakes:
            sys.stderr.write(f"{mistake}\n")
        return 1
    logs.configure(loaded.settings.log.level, app=loaded.identity.name, release=loaded.identity.release)
    database = Database(loaded.settings.database, loaded.identity.data_dir, loaded.settings.http.deadline_s)
    _log.info("working")
    tell_systemd("READY=1")
    wait_s = 0.0
    while signal.sigtimedwait(_STOP, wait_s) is None:
        wait_s = step(database, loaded.settings.reports)
    tell_systemd("STOPPING=1")
    database.close()
    _log.info("ended")
    return 0


def step(database: Database, settings: Reports) -> float:
    """Make one report, if there is one; returns after how many seconds to look for the next.

    A report that could not be made stays with this worker until its time has run out, and is then tried again.
    """
    try:
        with database.write() as session:
            task = reports.take(session, timedelta(seconds=settings.lease_s), settings.tries)
        if task is None:
            return settings.poll_s
        with database.read() as session:
            stock = reports.make(session)
        with database.write() as session:
            kept = reports.end(session, task, stock)
    except (UnavailableError, DeadlineExceededError) as error:
        _log.warning("the database cannot be used", exc_info=error)
        return _PAUSE_S
    except Exception:  # noqa: BLE001 (whatever it is, the next report may be better)
        _log.exception("a report could not be made")
        return _PAUSE_S
    # The one after it may be waiting already.
    _log.info("report made" if kept else "report made too late", extra={"report": str(task.id), "number": task.number})
    return 0.0


def tell_systemd(state: str) -> None:
    """Say how far this process is, sd_notify(3), if somebody wants to hear it."""
    address = os.environ.get("NOTIFY_SOCKET")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
            channel.sendto(state.encode(), "\0" + address[1:] if address.startswith("@") else address)


if __name__ == "__main__":
    sys.exit(main())
