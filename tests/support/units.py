"""What systemd says of the units of a host."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from testinfra.host import Host


def exposure(host: Host, unit: str) -> float:
    """How exposed a service is by `systemd-analyze security`: 0 is not at all, 10 is without any sandbox."""
    said = host.check_output("systemd-analyze security --no-pager %s.service | tail -n 1", unit)
    return float(re.findall(r"exposure level for \S+: (\d+\.\d+)", said)[0])


def emperors(host: Host) -> list[str]:
    """Return the units of all apps' Emperors that run on a host."""
    found = host.check_output("systemctl list-units --plain --no-legend --state=active 'uwsgi-emperor@*'")
    return [line.split()[0].removesuffix(".service") for line in found.splitlines()]
