"""The sample's scheduler, of which there may be only one: it notes when it ran, and two would be seen by times that overlap."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from typing import TYPE_CHECKING

from variant import DATA

if TYPE_CHECKING:
    from types import FrameType

_ASKED_TO_END: list[int] = []


def end(number: int, _frame: FrameType | None) -> None:
    """Remember that this process is to end."""
    _ASKED_TO_END.append(number)


def say(what: str) -> None:
    """Tell systemd something."""
    address = os.environ["NOTIFY_SOCKET"]
    with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as channel:
        channel.connect("\0" + address[1:] if address.startswith("@") else address)
        channel.send(what.encode())


signal.signal(signal.SIGTERM, end)
began = time.time()
say("READY=1")
while not _ASKED_TO_END:
    time.sleep(0.1)
# It takes a moment to end: one that is started before it has ended overlaps.
time.sleep(1)
with (DATA / "beats").open("a", encoding="utf-8") as log:
    log.write(f"{os.environ['APP_PROCESS']} {began} {time.time()}\n")
