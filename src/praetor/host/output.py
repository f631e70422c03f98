"""Runs a program for what it prints: both outputs become one text, and its end is kept. Runs on hosts and on the controller."""

from __future__ import annotations

import contextlib
import os
import pathlib
import pwd
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from typing import IO, NamedTuple

KEPT = 2**20  # characters; a program that prints without end must not take the machine's memory
_PIECE = 2**16


class Ended(NamedTuple):
    """How a program ended, and what it had printed."""

    command: str  # as one would type it
    status: int  # negative: the signal that ended it
    late: float | None  # the seconds that it had, if it took longer and was killed
    printed: str  # the end of it
    left_out: int  # characters before that

    @property
    def ok(self) -> bool:
        """Whether it succeeded."""
        return self.status == 0 and self.late is None

    @property
    def failure(self) -> str:
        """How it failed, for the operator."""
        if self.late is not None:
            return f"'{self.command}' did not end within {self.late:.0f} s and was killed"
        if self.status < 0:
            return f"'{self.command}' was ended by signal {-self.status} ({signal.strsignal(-self.status)})"
        return f"'{self.command}' failed with exit status {self.status}"

    @property
    def said(self) -> str:
        """What it printed, with a note where the beginning is left out."""
        return (f"(the first {self.left_out} characters are left out)\n" if self.left_out else "") + self.printed


def run(
    command: Sequence[str],
    *,
    cwd: pathlib.Path | None = None,
    env: Mapping[str, str] | None = None,
    user: pwd.struct_passwd | None = None,
    timeout_s: float | None = None,
    log: IO[str] | None = None,
) -> Ended:
    """Run a program to its end. No shell is involved, and it reads nothing.

    Args:
        command: the program and its arguments.
        cwd: where; here if not given.
        env: its environment; this process' own if not given.
        user: whom it runs as, with the umask of a slot.
        timeout_s: after so long it is killed, and its children with it: one that lives on would hold the output open.
        log: gets all that it prints.

    Raises:
        OSError: it cannot be started.
    """
    late = threading.Event()
    with subprocess.Popen(
        command,
        cwd=cwd,
        env=env,
        user=user.pw_uid if user else None,
        group=user.pw_gid if user else None,
        extra_groups=[] if user else None,
        umask=0o027 if user else -1,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=timeout_s is not None,
    ) as running:

        def kill() -> None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(running.pid, signal.SIGKILL)
                late.set()

        timer = threading.Timer(timeout_s or 0, kill)
        if timeout_s is not None:
            timer.start()
        try:
            printed, left_out = _end_of(running.stdout, log) if running.stdout else ("", 0)
            status = running.wait()
        except BaseException:
            running.kill()
            raise
        finally:
            timer.cancel()
    return Ended(" ".join(command), status, timeout_s if late.is_set() else None, printed, left_out)


def _end_of(stream: IO[str], log: IO[str] | None) -> tuple[str, int]:
    """Read all, and keep the end; the second is how many characters came before it."""
    kept, left_out = "", 0
    while piece := stream.read(_PIECE):
        if log:
            log.write(piece)
        kept += piece
        if len(kept) > 2 * KEPT:
            left_out += len(kept) - KEPT
            kept = kept[-KEPT:]
    return kept[-KEPT:], left_out + max(len(kept) - KEPT, 0)


def tail(text: str, lines: int = 40) -> str:
    """The last lines of a text."""
    return "\n".join(text.strip().splitlines()[-lines:])
