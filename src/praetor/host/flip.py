"""Flip and bake: send new requests to a slot, watch it under real traffic, flip back within a second if it fails."""

from __future__ import annotations

import contextlib
import json
import math
import pathlib
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from . import egress, jobs, processes, sandbox, uwsgi
from . import journal as journals
from . import site as sites
from .drain import Drain
from .layout import AppHost, BakeError, Slot
from .logs import last_lines

if TYPE_CHECKING:
    from praetor.documents import Bake, Journal, Place, TrafficFacts

WATCH_S = 0.5
PROBE_S = 0.2  # how long the old slot may keep the bake from watching the new one
BEFORE_BYTES = 512 * 1024  # how far back the access log is read for the time before the flip
BEFORE_S = 900  # and how old an entry may be: yesterday's incident excuses nothing
P95_FLOOR_S = 0.25  # below it, a factor between two p95 is noise


class Limits(NamedTuple):
    """What a slot may do while it bakes."""

    bake_s: float
    max_5xx_ratio: float
    max_p95_factor: float
    min_requests: int  # shares and percentiles of fewer say nothing


class Request(NamedTuple):
    """One line of NGINX's access log."""

    status: int
    seconds: float
    began: float  # seconds since the epoch


class Traffic(NamedTuple):
    """What NGINX's access log says of some span of time."""

    requests: int = 0
    failed: int = 0  # answered with 5xx
    p95_s: float = 0.0
    p95_least_s: float = 0.0  # what the p95 is at least, however unlucky the sample

    @property
    def ratio(self) -> float:
        """Share of the requests that were answered with 5xx."""
        return self.failed / self.requests if self.requests else 0.0


def breach(
    limits: Limits, before: Traffic, since: Traffic, start: uwsgi.Counters, now: uwsgi.Counters | None
) -> str | None:
    """Why a slot must not stay live; None when nothing speaks against it. A pure decision.

    Args:
        limits: what is allowed.
        before: traffic before the flip: what was bad before is not the new release's fault.
        since: traffic since the flip.
        start: the slot's own counters at the flip.
        now: and now; None when its stats server does not answer.
    """
    if now is None:
        return "the slot's stats server does not answer any more"
    if now.ended > start.ended:
        return f"{now.ended - start.ended} requests took longer than limits.request_s, and their worker was killed"
    if now.respawns > start.respawns:
        return f"{now.respawns - start.respawns} workers died"
    enough = since.requests >= limits.min_requests
    # One bad answer of twenty is above most limits and proves nothing; on a quiet site three, and not one good, do.
    several = since.failed >= 3
    hopeless = several and since.failed == since.requests
    # A share of a few requests excuses nothing either.
    was = before.ratio if before.requests >= limits.min_requests else 0.0
    if (enough and several and since.ratio > max(limits.max_5xx_ratio, was)) or (hopeless and was < 1):
        return f"{since.failed} of {since.requests} requests were answered with 5xx ({since.ratio:.1%}); {limits.max_5xx_ratio:.1%} are allowed, {was:.1%} it was before"
    raised, served = now.exceptions - start.exceptions, now.requests - start.requests
    if served >= limits.min_requests and raised / served > limits.max_5xx_ratio:
        return f"{raised} of {served} requests ended in an exception that the app did not catch"
    comparable = enough and before.requests >= limits.min_requests
    # If 3 % of an app's requests are slow, two among the first twenty mean nothing: what counts is not the sample's p95 but what it proves.
    if comparable and since.p95_least_s > max(P95_FLOOR_S, limits.max_p95_factor * before.p95_s):
        return f"p95 rose from {before.p95_s * 1000:.0f} to {since.p95_s * 1000:.0f} ms; a factor of {limits.max_p95_factor:g} is allowed"
    return None


def requests(lines: Iterable[bytes]) -> list[Request]:
    """Read lines of NGINX's JSON access log (`status`, `request_time_s`, `ts`: when it was written); other lines are skipped."""
    found = []
    for line in lines:
        try:
            # A client may put any bytes into its URI or user agent, and NGINX logs them as they are.
            entry = json.loads(line.decode(errors="replace"))
            status, seconds, ended = int(entry["status"]), float(entry["request_time_s"]), float(entry["ts"])
            # Answered by NGINX alone, while the app is in maintenance.
            if status == 503 and entry.get("upstream_connect_time_s") == "":
                continue
        except (ValueError, KeyError, TypeError):
            continue
        found.append(Request(status, seconds, ended - seconds))
    return found


def traffic(found: Iterable[Request], began_after: float) -> Traffic:
    """Summarise the requests that began after a time: a request that was running at the flip belongs to the old slot."""
    counted = [request for request in found if request.began >= began_after]
    times = sorted(request.seconds for request in counted)
    failed = sum(request.status >= 500 for request in counted)
    if not times:
        return Traffic()
    rank = len(times) * 0.95
    # Four standard deviations of the binomial distribution: one in thirty thousand.
    least = rank - 4 * math.sqrt(len(times) * 0.95 * 0.05)
    return Traffic(len(times), failed, times[math.ceil(rank) - 1], times[max(math.ceil(least) - 1, 0)])


class AccessLog:
    """An access log that is read further from where it was; survives rotation."""

    def __init__(self, path: pathlib.Path) -> None:
        """Stand at the log's end; an absent log is an empty one."""
        self.path = path
        self.offset, self.inode = self._end()

    def before(self) -> list[bytes]:
        """The last lines before this point."""
        return self._read(max(self.offset - BEFORE_BYTES, 0), self.offset).split(b"\n")[-5000:]

    def since(self) -> list[bytes]:
        """Whole lines that came after this point was last asked."""
        end, inode = self._end()
        if inode != self.inode or end < self.offset:
            self.offset, self.inode = 0, inode
        text = self._read(self.offset, end)
        whole = text[: text.rfind(b"\n") + 1]
        self.offset += len(whole)
        return whole.split(b"\n")[:-1]

    def _end(self) -> tuple[int, int]:
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return 0, 0
        return found.st_size, found.st_ino

    def _read(self, start: int, end: int) -> bytes:
        try:
            with self.path.open("rb") as log:
                log.seek(start)
                return log.read(max(end - start, 0))
        except FileNotFoundError:
            return b""


class Watch:
    """What a slot does after its flip, compared with what the app did before."""

    def __init__(self, host: AppHost, slot: Slot, access_log: pathlib.Path) -> None:
        """Look at the time before; the flip has not happened yet."""
        self.host, self.slot, self.log = host, slot, AccessLog(access_log)
        self.before = traffic(requests(self.log.before()), time.time() - BEFORE_S)
        self.serves = host.serves(slot.release)
        self.start = _counters_at_flip(host, slot) if self.serves else uwsgi.Counters(0, 0, 0, 0, 0, 0)
        self.now: uwsgi.Counters | None = self.start
        self.since = Traffic()
        self._seen: list[Request] = []
        self._misses = 0
        self.begin()

    def begin(self) -> None:
        """The flip happens now."""
        self.flipped_at, self._began = time.time(), time.monotonic()

    @property
    def seconds(self) -> float:
        """How long it has been watched."""
        return time.monotonic() - self._began

    def look(self) -> None:
        """Look once at its traffic and its counters; there are none of processes and jobs alone."""
        if not self.serves:
            return
        self._seen += requests(self.log.since())
        self.since = traffic(self._seen, self.flipped_at)
        now = _counters(self.host, self.slot)
        self._misses = 0 if now else self._misses + 1
        # One unanswered look may be a busy moment of the master; three in a row are none.
        self.now = now if now or self._misses >= 3 else self.start

    @property
    def facts(self) -> Bake:
        """What it has seen."""
        served = (self.now or self.start).requests - self.start.requests
        return {"flipped": True, "before": _facts(self.before), "since": _facts(self.since), "served": served}


def flip_and_bake(
    host: AppHost,
    slot: Slot,
    limits: Limits,
    access_log: pathlib.Path,
    journal: Journal,
    place: Place = processes.ALONE,
) -> Bake:
    """Make a slot live, with its processes, and watch it; goes back to what was live if it fails.

    Args:
        host: the app.
        slot: a slot that passed the gate.
        limits: what it may do while it is watched.
        access_log: NGINX's log of this app.
        journal: the run's; `previous` (the slot that was live) is noted before the flip.
        place: the host's in the fleet, which says how many of each process run here.

    Returns:
        The facts of the bake, for history and report; `flipped` says whether the link was changed.

    Raises:
        ReleaseError: the slot failed; it serves nothing any more. The journal's `reason` says why.
    """
    live = host.live()
    flipped = live != slot
    share = processes.share_of(host.manifest(slot.release), processes.share(host), place)
    if not flipped and "previous" not in journal and journals.settled(host, slot.release):
        sites.switch(host, slot.release, journal)
        processes.change(host, slot, share, journal)
        jobs.put(host, share)
        return {"flipped": False}
    if flipped:
        journal["previous"] = live.name if live else None
        journals.save(host, journal)
    old = Slot.parse(journal.get("previous") or "")
    drain = Drain(host, old, journal.get("drain")) if old else None
    watch = Watch(host, slot, access_log)
    _make_live(watch, share, journal, flipped=flipped)
    if reason := _bake(watch, limits, share, drain, journal):
        raise _failed(watch, reason, journal)
    return {**watch.facts, "flipped": flipped}


def _make_live(watch: Watch, share: processes.Share, journal: Journal, *, flipped: bool) -> None:
    """First the slow parts, processes and NGINX's reload; then the one rename, if the link has to change."""
    host, slot = watch.host, watch.slot
    processes.change(host, slot, share, journal)
    # A site that does not follow the link leads to the old slot until NGINX has read the next one, which must find the link renamed.
    linked = sites.follows_link(host)
    if flipped and not linked:
        host.flip(slot)
    stricter = sites.is_stricter(host, slot.release)
    if sites.switch(host, slot.release, journal) and stricter:
        sites.await_old_workers()
    watch.begin()
    if flipped and linked:
        host.flip(slot)
    processes.stop_others(host, slot)
    jobs.put(host, share)


def _bake(watch: Watch, limits: Limits, share: processes.Share, drain: Drain | None, journal: Journal) -> str | None:
    """Why the slot must not stay live, as soon as something speaks against it; None when nothing has until the end."""
    _watch_old(drain, journal)
    while True:
        remaining = limits.bake_s - watch.seconds
        if remaining > 0:
            time.sleep(min(WATCH_S, remaining))
        watch.look()
        if reason := breach(limits, watch.before, watch.since, watch.start, watch.now):
            return reason
        if reason := processes.breach(watch.host, watch.slot, share):
            return reason
        _watch_old(drain, journal)
        if remaining <= 0:
            return None


def _failed(watch: Watch, reason: str, journal: Journal) -> BakeError:
    """Flip back, and the error that tells of it."""
    after_s = watch.seconds
    back = undo(watch.host, journal)
    journal["reason"] = reason
    lines = last_lines(watch.host, watch.flipped_at)
    hint = sandbox.refused(watch.host, lines, watch.flipped_at) + egress.explain(watch.host)
    return BakeError(
        f"{watch.slot.release} failed under traffic after {after_s:.1f} s: {reason}. {back} The last lines of its log:\n{lines}{hint}"
    )


def _facts(of: Traffic) -> TrafficFacts:
    return {"requests": of.requests, "failed": of.failed, "p95_s": of.p95_s, "p95_least_s": of.p95_least_s}


def undo(host: AppHost, journal: Journal) -> str:
    """Send requests back to the slot that was live before this run, which is still warm; a sentence on what serves now."""
    if "previous" not in journal:
        return "It was never live in this run."
    previous = Slot.parse(journal["previous"]) if journal["previous"] else None
    if previous is None:
        host.live_link.unlink(missing_ok=True)
        processes.put_back(host, journal)
        return "Nothing was live before it, so nothing serves now."
    go_back(host, previous, journal)
    processes.put_back(host, journal)
    return f"{previous.release} {'serves' if host.serves(previous.release) else 'runs'} again."


def go_back(host: AppHost, slot: Slot, journal: Journal) -> None:
    """Make a slot live again, with the site of its release; the other way round where that site does not follow the link, or keeps more people out."""
    first = not sites.follows_link(host, slot.release) or sites.is_stricter(host, slot.release)
    if first and sites.switch(host, slot.release, journal):
        sites.await_old_workers()
    if host.live() != slot:
        host.flip_back(slot)
    sites.switch(host, slot.release, journal)


def _watch_old(drain: Drain | None, journal: Journal) -> None:
    """The old slot is watched from the flip on, so that settle does not have to wait until it is quiet."""
    if drain is None:
        return
    # If it ended by itself, that does not concern the bake.
    with contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
        drain.look(PROBE_S)
    journal["drain"] = drain.state


def _counters_at_flip(host: AppHost, slot: Slot) -> uwsgi.Counters:
    """The counters from which the bake starts. A slot that passed the gate and is slow to report them has as long as it had for the gate.

    Raises:
        OSError: there is no stats server, or it gives no answer.
    """
    manifest = host.manifest(slot.release)
    patience_s = manifest["settings"]["health"]["timeout_s"] if manifest else uwsgi.STATS_S
    try:
        return uwsgi.counters(host.stats(slot), max(patience_s, uwsgi.STATS_S))
    except TimeoutError:
        raise TimeoutError(
            f"{slot.release} was healthy, but gave no figures within {patience_s:.0f} s; it was not made live"
        ) from None


def _counters(host: AppHost, slot: Slot) -> uwsgi.Counters | None:
    try:
        return uwsgi.counters(host.stats(slot))
    except (OSError, ValueError):
        return None
