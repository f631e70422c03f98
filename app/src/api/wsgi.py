"""What a WSGI server loads: `api.wsgi:app`."""

import gc

gc.disable()  # nothing that loading makes is garbage

import logging  # noqa: E402
import os  # noqa: E402
import sys  # noqa: E402

from api import logs  # noqa: E402
from api.config import ConfigError, load  # noqa: E402
from api.factory import create_app  # noqa: E402

try:
    app = create_app(load(os.environ))
except ConfigError as error:
    logs.configure("error", app=os.environ.get("APP_NAME", "api"))
    logging.getLogger("api").critical("configuration refused", extra={"mistakes": error.mistakes})
    sys.exit(1)

# What is loaded stays: workers share it with the master that forked them, and need not look through it for garbage,
# https://docs.python.org/3/library/gc.html#gc.freeze
gc.freeze()
gc.enable()
