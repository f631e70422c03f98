"""An app that serves nobody: it says every second that it lives, until it is told to end."""

import logging
import os
import signal
import threading

stop = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stop.set())
log = logging.getLogger(__name__)
logging.basicConfig(level=logging.INFO)
while not stop.wait(1):
    log.info("tick of %s", os.environ["APP_RELEASE"])
