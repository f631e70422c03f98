"""The programs of a container: started, listened to, told to end."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

_writing = threading.Lock()
_NGINX_LEVEL = re.compile(r"\[(debug|info|notice|warn|error|crit|alert|emerg)\] ")
_LEVELS = {"notice": "info", "warn": "warning", "crit": "critical", "alert": "critical", "emerg": "critical"}


def write(data: bytes) -> None:
    """Write whole lines to stderr, none into the middle of another."""
    with _writing:
        while data:
            data = data[os.write(2, data) :]


def log(level: str, message: str, **more: object) -> None:
    """Say something as one JSON object on a line of stderr."""
    now = time.time()
    stamp = f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(now))}.{int(now % 1 * 1000):03d}+00:00"
    line = {"ts": stamp, "level": level, "logger": "container", "message": message, **more}
    write(json.dumps(line).encode() + b"\n")


class Program:
    """A program that runs, in a separate session: a Ctrl-C at the terminal is for the first process to pass on."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        env: Mapping[str, str],
        *,
        cwd: Path = Path("/"),
        stop: signal.Signals = signal.SIGTERM,
        grace_s: float = 10,
        fds: tuple[int, ...] = (),
    ) -> None:
        """Start it; what it prints comes out as JSON lines on stderr."""
        self.name, self.grace_s = name, grace_s
        self._stop_signal = stop
        self.process = subprocess.Popen(
            command,
            env=dict(env),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=fds,
            start_new_session=True,
        )
        assert self.process.stdout  # noqa: S101  a pipe was asked for
        self._reader = threading.Thread(target=relay, args=(name, self.process.stdout), daemon=True)
        self._reader.start()

    def stop(self, hurry: threading.Event) -> None:
        """Ask it to end and wait; what does not end in its time, or when there is a hurry, is killed."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(self._stop_signal)
        deadline = time.monotonic() + self.grace_s
        while self.process.poll() is None:
            if hurry.wait(0.02) or time.monotonic() > deadline:
                log(
                    "error",
                    f"{self.name} did not end in {'this hurry' if hurry.is_set() else f'{self.grace_s:.0f} s'}: killed",
                )
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()
        self.heard()

    def heard(self) -> None:
        """Wait until what an ended program said has been passed on; what it left running may hold the pipe open."""
        self._reader.join(1)


def relay(name: str, lines: BinaryIO) -> None:
    """Pass on what a program says: JSON as it is, every other line as JSON."""
    with lines:
        for line in lines:
            if line.startswith(b"{") and line.endswith(b"\n"):
                write(line)
            elif text := line.decode(errors="backslashreplace").strip():
                found = _NGINX_LEVEL.search(text) if name == "nginx" else None
                level = found[1] if found else "info"
                log(_LEVELS.get(level, level), text, program=name)


def copy(source: int) -> None:
    """Pass on the access log, which is JSON already. NGINX writes less at once than a pipe takes whole."""
    rest = b""
    while data := os.read(source, 65536):
        whole, cut, rest_of = (rest + data).rpartition(b"\n")
        write(whole + cut)
        rest = rest_of
