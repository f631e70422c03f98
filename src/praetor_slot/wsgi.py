"""What uWSGI loads: `praetor_slot.wsgi:application`, the app of the release."""

import os
import time
import traceback

import uwsgi

from .mount import mounted
from .watch import table
from .worker import Watched, load


def option(name: str) -> str:
    """A value that the vassal file sets."""
    value: bytes = uwsgi.opt[name]
    return value.decode()


state = option("slot-state")
try:
    rows = table(state)
    app = mounted(load(option("slot-app"), state), option("slot-mount"))
    application = Watched(app, rows, float(option("slot-request-s")), float(option("slot-stream-s")))
except BaseException:
    if uwsgi.worker_id() == 0:
        raise
    # A worker without an app would answer 500.
    traceback.print_exc()
    time.sleep(1)
    os._exit(1)
