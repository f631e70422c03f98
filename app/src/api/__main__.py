"""Flask's own server, for development: `python -m api [PORT]`. Stops as production does: running requests end first."""

import signal
import sys
import threading
from types import FrameType

from werkzeug.serving import ThreadedWSGIServer, make_server

from api.wsgi import app


def main(port: int) -> None:
    """Serve on loopback until SIGTERM or SIGINT."""
    server = make_server("127.0.0.1", port, app, threaded=True)
    if isinstance(server, ThreadedWSGIServer):
        server.daemon_threads = False  # so that closing the server waits for them

    def stop(_: int, __: FrameType | None) -> None:
        # shutdown() waits for the loop that this handler interrupts, so it needs a separate thread.
        threading.Thread(target=server.shutdown).start()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    app.logger.info("serving", extra={"url": f"http://127.0.0.1:{server.port}"})
    server.serve_forever()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 8085)
