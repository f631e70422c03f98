"""Drains a host, ends that, or tells who did."""

from __future__ import annotations

import getpass
import socket
from typing import TYPE_CHECKING, Any

from praetor.run.on_host import HostAction

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class ActionModule(HostAction):
    """Arguments: see `praetor.host.drained.work`; who asks is known here."""

    _supports_check_mode = False
    WORK = "drained"
    ARGUMENTS = {  # noqa: RUF012  read only
        "wanted": {"type": "str", "choices": ["look", "drain", "undrain"], "required": True},
        "why": {"type": "str", "default": ""},
        "apps": {"type": "list", "elements": "str", "default": []},
    }

    def on_host(self, params: Mapping[str, Any], secret: Iterable[str] = (), work: str = "") -> dict[str, Any]:
        """Send along who asks."""
        return super().on_host({**params, "by": f"{getpass.getuser()}@{socket.gethostname()}"}, secret, work)
