"""Remove an app from a host: NGINX's site, slots, releases, data, history."""

from __future__ import annotations

from . import egress, processes
from . import site as sites
from .journal import refuse_when_locked
from .layout import AppHost, remove
from .sandbox import unlimit
from .settle import retire_others


def work(*, app: str, drain_s: float) -> dict[str, object]:
    """Wait for the requests to end, then remove everything; a second call does nothing.

    Raises:
        LockedError: a run has the app.
    """
    host = AppHost(app)
    refuse_when_locked(host)
    existed = host.root.exists() or host.run_dir.exists() or bool(host.slots())
    sites.take_away(host)
    host.live_link.unlink(missing_ok=True)
    if existed:
        processes.end_all(host)
    retired = retire_others(host, drain_s, None)
    for path in (host.run_dir, host.root, host.layout.vassals / host.app):
        remove(path)
    if existed:
        unlimit(host)
        egress.unlimit(host)
    return {"changed": existed, "retired": retired}
