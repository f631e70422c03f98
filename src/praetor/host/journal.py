"""Who is changing an app on this host, and what was done to it: the lock of a run, the history, the bad releases, the freeze."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING

from .full import is_full
from .layout import AppHost, ReleaseError, read_json, write_atomically

if TYPE_CHECKING:
    from praetor.documents import Event, Freeze, Journal, Mark, Run

LEASE_S = 900  # a run renews its lock with every phase; a controller that says nothing for this long, and for the bakes of all batches, is gone


class LockedError(ReleaseError):
    """Another run holds the app on this host."""

    def __init__(self, message: str, holder: Journal) -> None:
        """Carry the holder, so that the controller can find out whether it is still alive."""
        super().__init__(message)
        self.holder = holder


@contextlib.contextmanager
def phase(
    host: AppHost, run: Run, name: str, break_run: str | None = None, *, begins: bool = False
) -> Iterator[Journal]:
    """Hold the app for one phase of a run: takes the lock, or renews it, and notes the phase in the journal.

    The lock has two halves. A lease in `run.json` spans the phases of a run and outlives the calls that make them; flock(2) spans one call, so that
    a module that goes on after its controller was killed is waited for, never raced.

    Args:
        host: the app.
        run: whose phase it is.
        name: the phase.
        break_run: id of a run whose controller was found dead; its lock is taken over.
        begins: whether the run may take the lock here. A later phase that finds the lock gone was taken for dead, and must not go on.

    Yields:
        The journal: what earlier phases of the run noted. `save` writes what was added; so does the end of the phase. A journal that was just
        taken has `interrupted`: the one of a run that never ended, if there was one.

    Raises:
        LockedError: another run holds the app.
        ReleaseError: this run has lost the app.
    """
    host.root.mkdir(parents=True, exist_ok=True)
    # Asked before waiting: a phase of another run may last as long as its bake.
    _refuse(host, found(host), run["id"], break_run)
    # Nobody else may open it: whoever can, could hold it.
    with os.fdopen(os.open(host.root / ".flock", os.O_WRONLY | os.O_CREAT, 0o600), "w") as guard:
        _wait_for(guard, 30.0, host)
        known = found(host)
        _refuse(host, known, run["id"], break_run)
        lease = run.get("lease_s", LEASE_S)
        if known and known["run"]["id"] == run["id"]:
            journal = known
            journal |= {"phase": name, "expires": time.time() + lease}
            _renew(host, journal)
        elif begins:
            # A journal that still names an interrupted run was itself interrupted before that one was repaired.
            interrupted = known and (known.get("interrupted") or known)
            now = time.time()
            journal = {"run": run, "since": now, "interrupted": interrupted, "phase": name, "expires": now + lease}
            save(host, journal)
        else:
            raise ReleaseError(
                f"this run has lost its lock on {host.app} on this host: another run took it for dead and undid its work. Nothing was changed; run again."
            )
        try:
            yield journal
        finally:
            # A phase that ends the run has removed the file.
            if host.run_file.exists():
                journal["expires"] = time.time() + lease
                _renew(host, journal)


def save(host: AppHost, journal: Journal) -> None:
    """Write the journal now: whoever finds this run dead must know what it was about to do."""
    write_atomically(host.run_file, json.dumps(journal, indent=1) + "\n", 0o644)


def found(host: AppHost) -> Journal | None:
    """The journal of the run that has the app on this host, or had it when it died; None when there is none."""
    journal: Journal | None = read_json(host.run_file) or None
    return journal


def holds(host: AppHost, run_id: str) -> bool:
    """Whether a run has the lock on this host."""
    journal = found(host)
    return bool(journal and journal["run"]["id"] == run_id)


def unlock(host: AppHost, run_id: str) -> bool:
    """End a run on this host; the lock of another run is left alone."""
    if not holds(host, run_id):
        return False
    host.run_file.unlink(missing_ok=True)
    return True


def describe(host: AppHost, journal: Journal) -> str:
    """A sentence that says who holds the app, since when, from where and why, and what one can do."""
    run, owner = journal["run"], journal["run"]["owner"]
    since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(journal["since"]))
    left = max(int(journal["expires"] - time.time()), 0)
    return (
        f"{host.app} is locked by {owner['user']}@{owner['host']} (pid {owner['pid']}) since {since}, for: {run['action']}"
        f"{' - ' + run['why'] if run.get('why') else ''}; now in phase '{journal['phase']}'. Nothing was changed. "
        f"Wait with -e lock_wait=SECONDS; a dead owner's lock frees itself (at once on its own controller, after {left} s elsewhere)."
    )


def append(host: AppHost, event: Event) -> None:
    """Append one line to the app's history; durable when this returns."""
    line = json.dumps({"ts": _now(), **event}) + "\n"
    with os.fdopen(os.open(host.history, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644), "r+b", buffering=0) as file:
        # Half a line that a crash or a full disk left must not swallow this one.
        size = file.seek(0, os.SEEK_END)
        cut = size > 0 and os.pread(file.fileno(), 1, size - 1) != b"\n"
        left = ("\n" * cut + line).encode()
        while left:
            left = left[os.write(file.fileno(), left) :]
        os.fsync(file.fileno())


def history(host: AppHost) -> list[Event]:
    """What was done to the app on this host, oldest first; a line that a crash cut short is left out."""
    events: list[Event] = []
    if host.history.is_file():
        for line in host.history.read_bytes().split(b"\n"):
            with contextlib.suppress(ValueError):
                events.append(json.loads(line))
    return events


def bad(host: AppHost) -> dict[str, Mark]:
    """The releases that failed under traffic, with reason and time."""
    return read_json(host.bad_file) or {}


def mark_bad(host: AppHost, release: str, reason: str) -> None:
    """Remember that a release failed under traffic: rollbacks skip it and releasing it again needs force."""
    mark: Mark = {"reason": reason, "ts": _now()}
    marked = bad(host) | {release: mark}
    write_atomically(host.bad_file, json.dumps(marked, indent=1) + "\n", 0o644)


def unmark_bad(host: AppHost, keep: set[str]) -> None:
    """Forget all bad releases but those to keep."""
    marked = bad(host)
    if set(marked) - keep:
        write_atomically(
            host.bad_file, json.dumps({name: marked[name] for name in marked if name in keep}, indent=1) + "\n", 0o644
        )


def before(host: AppHost, live: str | None) -> str | None:
    """The release to roll back to: what was live before the live one was released, skipping releases that are bad or gone.

    Rollbacks are passed over when looking back, so that rolling back twice goes back two releases and never forward again.
    """
    entries = [entry for entry in history(host) if entry.get("action") == "release" and entry.get("result") == "ok"]
    usable = set(host.releases()) - set(bad(host))
    seen: set[str] = set()
    current: str | None = live
    while current and current not in seen:
        seen.add(current)
        befores = [entry["from"] for entry in entries if entry["to"] == current and entry["from"]]
        current = befores[-1] if befores else None
        if current in usable and current != live:
            return current
    return None


def last_settled(host: AppHost) -> str | None:
    """The release that the last successful run made live."""
    ended = _last_success(host)
    return str(ended["to"]) if ended else None


def made_live_by(host: AppHost, release: str) -> str | None:
    """The id of the last successful run, if it made this release live: a flip that was never settled cannot be trusted."""
    ended = _last_success(host)
    return str(ended.get("run", "")) if ended and ended["to"] == release else None


def made_live_on(host: AppHost) -> list[str]:
    """The app hosts that the last successful run knew, whether it went to them or not."""
    ended = _last_success(host)
    return [*ended.get("hosts", []), *ended.get("without", [])] if ended else []


def _last_success(host: AppHost) -> Event | None:
    succeeded = [
        entry
        for entry in history(host)
        if entry.get("result") == "ok" and entry.get("action") in ("release", "rollback")
    ]
    return succeeded[-1] if succeeded else None


def settled(host: AppHost, release: str) -> bool:
    """Whether the last successful run made this release live."""
    return made_live_by(host, release) is not None


def frozen(host: AppHost) -> Freeze | None:
    """The freeze that forbids releases now; None when there is none or it is over."""
    freeze: Freeze | None = read_json(host.root / "freeze.json")
    return freeze if freeze and freeze["until"] > time.time() else None


def refuse_when_locked(host: AppHost) -> None:
    """Lock for work outside of a run: continues only if no run has the app.

    Raises:
        LockedError: a run has it.
    """
    _refuse(host, found(host), None, None)


def _refuse(host: AppHost, journal: Journal | None, run_id: str | None, break_run: str | None) -> None:
    if journal and journal["run"]["id"] not in (run_id, break_run) and journal["expires"] > time.time():
        raise LockedError(describe(host, journal), journal)


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _renew(host: AppHost, journal: Journal) -> None:
    """Renew the lease of the same run: a full disk must not keep it from going back to what was live."""
    try:
        save(host, journal)
    except OSError as error:
        if not is_full(error):
            raise


def _wait_for(guard: IO[str], seconds: float, host: AppHost) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                message = "a phase of another run is still at work on this host; look with playbooks/status.yml and run again, or wait with -e lock_wait=SECONDS"
                holder = found(host)
                raise (LockedError(message, holder) if holder else ReleaseError(message)) from None
            time.sleep(0.2)
        else:
            return
