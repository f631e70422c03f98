"""The kernel's list of listening unix sockets (sock_diag)."""

from __future__ import annotations

import os
import socket
import struct

_NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_DUMP_REQUEST = 0x301
_LISTENING = 1 << 10
_SHOW_NAME_AND_QUEUE = 0x01 | 0x10
_ATTRIBUTE_NAME, _ATTRIBUTE_QUEUE = 0, 4
_ERROR, _DONE = 2, 3


def parse_unix_diag(data: bytes, backlogs: dict[str, tuple[int, int]]) -> bool:
    """Read one datagram of a sock_diag dump (linux/unix_diag.h) into path -> (waiting, limit).

    Returns:
        Whether it was the last.

    Raises:
        OSError: the kernel refuses.

    """
    position = 0
    while position + 16 <= len(data):
        length, kind = struct.unpack_from("=IH", data, position)
        if kind == _DONE:
            return True
        if kind == _ERROR:
            code = -struct.unpack_from("=i", data, position + 16)[0]
            raise OSError(code, os.strerror(code))
        name, queue = "", None
        at, end = position + 32, position + length
        while at + 4 <= end:
            size, attribute = struct.unpack_from("=HH", data, at)
            if attribute == _ATTRIBUTE_NAME:
                name = data[at + 4 : at + size].rstrip(b"\0").decode("utf-8", errors="replace")
            elif attribute == _ATTRIBUTE_QUEUE:
                queue = struct.unpack_from("=II", data, at + 4)
            at += max(4, (size + 3) & ~3)
        if name and queue:
            backlogs[name] = (queue[0], queue[1])
        position += max(16, (length + 3) & ~3)
    return False


def listening_backlogs(timeout_s: float = 0.5) -> dict[str, tuple[int, int]]:
    """Ask the kernel for every listening unix socket of this network namespace.

    Returns:
        Path to connections that wait to be accepted, and how many may.

    Raises:
        OSError: the kernel does not tell.

    """
    backlogs: dict[str, tuple[int, int]] = {}
    request = struct.pack("=BBHIIIII", socket.AF_UNIX, 0, 0, _LISTENING, 0, _SHOW_NAME_AND_QUEUE, 0, 0)
    header = struct.pack("=IHHII", 16 + len(request), _SOCK_DIAG_BY_FAMILY, _DUMP_REQUEST, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG) as netlink:
        netlink.settimeout(timeout_s)
        netlink.send(header + request)
        while not parse_unix_diag(netlink.recv(1 << 16), backlogs):
            pass
    return backlogs
