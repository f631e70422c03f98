"""What a WSGI server loads: `api.wsgi:app`."""

import logging
import os
import sys

from api import logs
from api.config import ConfigError, load
from api.factory import create_app

try:
    app = create_app(load(os.environ))
except ConfigError as error:
    logs.configure("error", app=os.environ.get("APP_NAME", "api"))
    logging.getLogger("api").critical("configuration refused", extra={"mistakes": error.mistakes})
    sys.exit(1)
