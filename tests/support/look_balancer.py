"""Runs on a balancer, as root: prints what HAProxy says about itself and the hosts behind it, as JSON. `python3 - ADDRESSES < look_balancer.py`."""

from __future__ import annotations

import csv
import json
import socket
import sys


def ask(path: str, command: str) -> str:
    """What HAProxy answers; nothing when it does not."""
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(5)
            connection.connect(path)
            connection.sendall(command.encode() + b"\n")
            connection.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: connection.recv(65536), b"")).decode()
    except OSError:
        return ""


def holds(address: str) -> bool:
    """Whether this host has the address: only then it can be bound."""
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True


table = ask("/run/haproxy/admin.sock", "show stat").removeprefix("# ").splitlines()
rows = [row for row in csv.DictReader(table) if row["svname"] not in {"FRONTEND", "BACKEND"}]
processes = ask("/run/haproxy/master.sock", "show proc")
print(
    json.dumps(
        {
            "servers": {row["svname"]: row["status"] for row in rows if row["pxname"] == "sample"},
            "requests": {row["svname"]: int(row["stot"] or 0) for row in rows if row["pxname"] == "sample"},
            "worker": processes.partition("# workers")[2].partition("# old")[0].split()[:1],
            "processes": processes,
            "holds": all(map(holds, sys.argv[1:])),
            "closing": "closing 1" in ask("/run/haproxy/admin.sock", "show map /etc/haproxy/switches.map"),
        }
    )
)
