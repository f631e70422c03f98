"""What the app does besides answering, until it is asked to end: then it finishes what it has begun."""

import signal
import sys
import threading

asked = threading.Event()
signal.signal(signal.SIGINT, lambda *_: asked.set())
sys.stderr.write(f'{{"message": "begun", "name": "{sys.argv[1]}"}}\n')
asked.wait()
sys.stderr.write('{"message": "finished"}\n')
