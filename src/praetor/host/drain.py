"""Drain: find out when a slot that gets no new requests holds none any more."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from . import uwsgi
from .layout import AppHost, Slot

if TYPE_CHECKING:
    from praetor.documents import DrainState

QUIET_S = 1.0
LOOK_S = 0.1


class Drain:
    """Watches a slot from which new requests were sent away.

    One probe goes through the slot's own socket first: its backlog is first in, first out, so when the probe is answered, all that was queued
    before it has been accepted. Then the slot must look empty, with an unchanged count of requests, for a second, because uWSGI marks a core as
    busy only after accept(2) (without that second 1 request in 237,965 was lost).

    What was seen is plain data in `state`, for a later phase of the run to go on with: the bake has seconds in which it can watch the old slot.
    """

    def __init__(self, host: AppHost, slot: Slot, state: DrainState | None = None) -> None:
        """Go on with `state` if it is of this slot."""
        self.host, self.slot = host, slot
        begun = state is not None and state["slot"] == slot.name
        self.state: DrainState = state if state is not None and begun else {"slot": slot.name, "probed": False}

    def look(self, patience_s: float) -> bool:
        """Whether the slot certainly holds no request; `patience_s` is how long the probe may take.

        Raises:
            FileNotFoundError, ConnectionRefusedError: nobody listens.
        """
        if not self.state["probed"]:
            self.state["probed"] = self._probe(patience_s)
        if not self.state["probed"]:
            return False
        now = time.monotonic()  # of the host, not of this process: the same clock for a later phase
        try:
            found = uwsgi.counters(self.host.stats(self.slot))
        except (FileNotFoundError, ConnectionRefusedError):
            raise
        except (OSError, ValueError):
            return False  # one unanswered look says nothing
        if found.busy or found.requests != self.state.get("requests"):
            self.state |= {"requests": None if found.busy else found.requests, "since": now}
            return False
        return bool(now - self.state["since"] >= QUIET_S)

    def wait(self, timeout_s: float) -> bool:
        """Wait until the slot holds no request; False when that took too long."""
        deadline = time.monotonic() + timeout_s
        try:
            while (left := deadline - time.monotonic()) > 0:
                if self.look(left):
                    return True
                time.sleep(LOOK_S)
        except (FileNotFoundError, ConnectionRefusedError):
            return True  # nobody listens: there is nothing to wait for
        return False

    def _probe(self, patience_s: float) -> bool:
        """Whether the slot took a request that was sent now."""
        try:
            probe(self.host, self.slot, patience_s)
        except (FileNotFoundError, ConnectionRefusedError):
            raise
        except TimeoutError:
            return False
        except (OSError, ValueError):
            return True  # it hung up, or did not answer in HTTP: it has taken the request
        return True


def probe(host: AppHost, slot: Slot, timeout_s: float) -> int:
    """The status that a slot answers on its health path. Raises as `uwsgi.get` does."""
    manifest = host.manifest(slot.release)
    path = manifest["settings"]["health"]["path"] if manifest else None
    fastcgi = not host.is_before_fastcgi(slot.release)
    return uwsgi.get(host.socket(slot), path or "/", "localhost", timeout_s, fastcgi=fastcgi).status
