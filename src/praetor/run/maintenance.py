"""What an operator writes about a maintenance: how long, who is let in, how long requests wait. Runs on the controller."""

from __future__ import annotations

import ipaddress
import re
from typing import TypedDict

_SPAN = re.compile(r"(\d{1,6})([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
LONGEST_S = 30 * 86400
LONGEST_HOLD_S = 30  # clients and what is between give up soon after


class Asked(TypedDict):
    """What the operator asks for; None where nothing was given."""

    for_s: int | None
    hold_s: int | None
    allow: list[str]
    end: bool


class MaintenanceError(Exception):
    """It cannot be done as it was written; the message says what is expected."""


def span_s(option: str, text: str, longest_s: int) -> int:
    """Read a time span: `90s`, `15m`, `2h`, `1d`.

    Raises:
        MaintenanceError: it is none, or too long.
    """
    found = _SPAN.fullmatch(text.strip())
    seconds = int(found[1]) * _SECONDS[found[2]] if found else 0
    if not 1 <= seconds <= longest_s:
        limit = f"{longest_s // 86400}d" if longest_s >= 86400 else f"{longest_s}s"
        raise MaintenanceError(f"-e {option}={text}: expected a time span of at most {limit}, such as 20s, 15m or 2h")
    return seconds


def networks(text: str) -> list[str]:
    """Read addresses and networks, with commas or spaces in between.

    Raises:
        MaintenanceError: one is neither.
    """
    found = []
    for word in text.replace(",", " ").split():
        try:
            found.append(str(ipaddress.ip_network(word)))
        except ValueError as error:
            raise MaintenanceError(
                f"-e allow={word}: expected an address or a network, such as 203.0.113.0/24: {error}"
            ) from None
    return found


def asked(for_time: str, allow: str, hold: str, *, end: bool, balancers: bool) -> Asked:
    """Read what was asked for.

    Raises:
        MaintenanceError: it contradicts itself, or cannot be done here.
    """
    if end and (for_time or allow or hold):
        raise MaintenanceError("-e end=true ends a maintenance: expected neither for_time nor allow nor hold with it")
    if not end and bool(for_time) == bool(hold):
        raise MaintenanceError(
            "expected one of: -e for_time=30m (clients get 503 for so long), -e hold=20s (their requests wait for so long), -e end=true"
        )
    if hold and allow:
        raise MaintenanceError("-e allow: expected with for_time only; hold keeps all requests waiting")
    if hold and not balancers:
        raise MaintenanceError(
            "-e hold: found no balancer_hosts, expected some: NGINX cannot keep requests waiting. With for_time it answers 503 instead"
        )
    return Asked(
        for_s=span_s("for_time", for_time, LONGEST_S) if for_time else None,
        hold_s=span_s("hold", hold, LONGEST_HOLD_S) if hold else None,
        allow=networks(allow),
        end=end,
    )
