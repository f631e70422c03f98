"""Whether balancers are told to send nothing new to this host."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from app_exporter.exposition import Exposition


def add_drained(file: Path, exposition: Exposition) -> None:
    """Add whether the host is drained, and since when: the file is written once, and what is in it does not matter to NGINX either."""
    try:
        since = file.stat().st_mtime
    except FileNotFoundError:
        since = None
    text = "Whether balancers are told to send nothing new to this host."
    exposition.add("gauge", "praetor_host_drained", text, since is not None)
    if since is not None:
        text = "Time since which balancers are told so."
        exposition.add("gauge", "praetor_host_drained_since_timestamp_seconds", text, since)
