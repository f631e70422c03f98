"""Settle: drain and retire slots that are not live, prune what is old, record the result."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from . import egress, emperors, processes, sandbox
from . import journal as journals
from . import site as sites
from .drain import Drain, probe
from .flip import go_back, undo
from .gate import await_end, end_slot
from .layout import AppHost, ReleaseError, Slot, remove

if TYPE_CHECKING:
    from praetor.documents import DrainState, Event, Journal

BAD_KEPT = 20  # marks of bad releases


def _warm(host: AppHost, slot: Slot) -> bool:
    """Whether a slot can be live again: it takes requests, if it serves any. Any answer but a failure counts: the app may know no host name `localhost`."""
    if not host.serves(slot.release):
        return True
    try:
        return probe(host, slot, 5.0) < 500
    except (OSError, ValueError):
        return False


@contextlib.contextmanager
def retiring(host: AppHost, drain_s: float, but: Slot | None, seen: DrainState | None = None) -> Iterator[list[str]]:
    """Drain and end every slot of the app but one, starting from what was already `seen` of a drain. Yields their names; the end of the block waits until they are gone."""
    slots = [slot for slot in host.slots() if slot != but]
    for slot in slots:
        Drain(host, slot, seen).wait(drain_s)
        end_slot(host, slot)
    try:
        yield [slot.name for slot in slots]
    finally:
        for slot in slots:
            await_end(host, slot, drain_s + 60)
        emperors.retire_idle(host)


def retire_others(host: AppHost, drain_s: float, but: Slot | None) -> list[str]:
    """Drain and remove every slot of the app but one; the names of those removed."""
    with retiring(host, drain_s, but) as names:
        return names


def repair(host: AppHost, journal: Journal, drain_s: float) -> list[str]:
    """Clean up after an interrupted run: one slot stays, and nothing half-made; returns sentences on what was done.

    A flip that was not settled is undone while the slot before it is still warm: that slot is known to be good, the other was still being watched.
    """
    done = []
    interrupted = journal.get("interrupted")
    live = host.live()
    if interrupted:
        owner = interrupted["run"]["owner"]
        done.append(
            f"took over from an interrupted {interrupted['run']['action']} by {owner['user']}@{owner['host']} (phase '{interrupted['phase']}')"
        )
        previous = Slot.parse(interrupted.get("previous") or "")
        unsettled = live and previous and live != previous and not journals.settled(host, live.release)
        if live and interrupted.get("site"):
            journal["site"] = interrupted["site"]
        if live and previous and unsettled and host.stands(previous) and _warm(host, previous):
            go_back(host, previous, journal)
            done.append(f"flipped back to {previous.release}: the bake of {live.release} was not finished")
    serving = host.live()
    if serving and sites.switch(host, serving.release, journal):
        done.append(f"gave NGINX the site of {serving.release} again")
    if interrupted and "share" in interrupted:
        processes.put_back(host, interrupted)
    done += [f"retired slot {name}" for name in retire_others(host, drain_s, serving)]
    for path in host.leftovers():
        remove(path)
        done.append(f"removed {path}")
    journal.pop("interrupted", None)  # last: whoever finds this repair half done must know of it
    return done


def settle(host: AppHost, journal: Journal, release: str, keep: int, drain_s: float) -> list[str]:
    """Retire what is no longer live, prune old releases, record success and end the run on this host; returns sentences on what was done.

    Raises:
        ReleaseError: the release is not live here, so there is nothing to settle.
    """
    live = host.live()
    if live is None or live.release != release:
        raise ReleaseError(f"{release} is not live on this host, so it cannot be settled")
    host.way_back.unlink(missing_ok=True)
    sandbox.limit(host, host.manifest(release))
    egress.limit(host, host.manifest(release))
    previous = Slot.parse(journal.get("previous") or "")
    # A run that ends what an interrupted one began did not flip; the history knows what was live.
    before = previous.release if previous else journals.last_settled(host)
    with retiring(host, drain_s, live, journal.get("drain")) as retired:
        done = [f"retired slot {name}" for name in retired]
        event = _ended(journal, before if before != release else None, release, "ok")
        journals.append(host, {**event, "bake": journal["bake"]} if "bake" in journal else event)
        done += prune(host, keep)
    journals.unlock(host, journal["run"]["id"])
    return done


def abandon(
    host: AppHost, journal: Journal, release: str, reason: str, drain_s: float, *, bad: bool = False
) -> list[str]:
    """End a failed run on this host: what was live before is live again, the candidate is gone, the failure is recorded.

    A release that failed under traffic is marked bad: where it did (the journal has the reason), and with `bad` on the other hosts of the run.
    """
    live = host.live()
    done = []
    if "previous" in journal and live and live.name != journal["previous"]:
        done.append(undo(host, journal))
    elif "share" in journal:
        processes.put_back(host, journal)  # it failed between the start of the processes and the flip
    done += repair(host, journal, drain_s)
    live = host.live()
    if live:
        sandbox.limit(host, host.manifest(live.release))
        egress.limit(host, host.manifest(live.release))
    # One that also serves is not bad: what failed is what it was started again with.
    if (bad or journal.get("reason")) and not (live and live.release == release):
        journals.mark_bad(host, release, journal.get("reason") or reason)
    event = _ended(journal, live.release if live else None, release, "failed")
    journals.append(host, {**event, "reason": reason[:4000]})
    journals.unlock(host, journal["run"]["id"])
    return done


def _ended(journal: Journal, before: str | None, release: str, result: str) -> Event:
    """How a run ended on this host, who ran it and how long it took."""
    run = journal["run"]
    event: Event = {
        "action": run["action"],
        "from": before,
        "to": release,
        "result": result,
        "by": f"{run['owner']['user']}@{run['owner']['host']}",
        "run": run["id"],
        "why": run["why"],
        "duration_s": round(time.time() - journal["since"], 1),
    }
    if hosts := run.get("hosts"):
        event["hosts"] = hosts
    if without := run.get("without"):
        event["without"] = without
    return event


def prune(host: AppHost, keep: int) -> list[str]:
    """Remove the oldest releases beyond `keep`, never the live one nor the one a rollback would go to; then wheels that no release names.

    Units that have ended go before: a file that names a release keeps it no longer than one of its processes or jobs runs.

    Those that were live once come before those that never were: a series of failures must not take away what one can go back to.
    """
    processes.forget_ended(host)
    live = host.live()
    name = live.release if live else None
    releases = host.releases()
    served = {entry["to"] for entry in journals.history(host) if entry.get("result") == "ok" and "from" in entry}
    needed = {name, journals.before(host, name), *processes.in_use(host)}
    kept = [release for release in releases if release in needed]
    rest = sorted((release for release in releases if release not in kept), key=lambda release: release not in served)
    kept += rest[: max(keep - len(kept), 0)]
    done = []
    for release in releases:
        if release not in kept:
            # The manifest goes first: without it the release is not complete, whatever happens next.
            (host.release_dir(release) / "release.json").unlink()
            remove(host.release_dir(release))
            done.append(f"pruned {release}")
    for path in host.unused_static():
        remove(path)
    # The mark outlives the files, because the same source makes the same release again.
    journals.unmark_bad(host, {*kept, *list(journals.bad(host))[-BAD_KEPT:]})
    _prune_wheels(host)
    return done


def _prune_wheels(host: AppHost) -> None:
    needed = set()
    for path in host.layout.apps.glob("*/releases/*/release.json"):
        other = AppHost(path.parents[2].name, host.layout)
        manifest = other.manifest(path.parent.name)
        if manifest is None:
            return  # another app is being changed this moment: the next run prunes
        needed |= {entry["sha256"] for entries in manifest["wheels"].values() for entry in entries}
        needed |= {manifest["tree"]["sha256"]} if manifest["tree"] else set()
    for path in host.wheels.iterdir() if host.wheels.is_dir() else ():
        if path.name not in needed and time.time() - path.stat().st_mtime > 3600:
            remove(path)
