"""Gate: start a release's slot and probe its private socket until it is healthy. It serves no client yet."""

from __future__ import annotations

import contextlib
import grp
import signal
import stat
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from . import emperors, sandbox, uwsgi
from . import journal as journals
from .layout import AppHost, Emperor, ReleaseError, Slot, link_atomically, remove
from .logs import last_lines, read_only_hint

NEEDED_IN_A_ROW = 2  # one good answer can be luck
CLIENTS = "www-data"
POLL_S = 0.05
SIGNAL_S = 3.0  # by then the Emperor has read its directory, however busy it is


class Health(NamedTuple):
    """When a slot is healthy: what to ask, what to expect, how long to wait."""

    path: str
    status: int
    timeout_s: float  # from the slot's start to its first answer
    warmup_s: float  # from its first answer to the expected one
    host: str  # the Host header: a server name of the app

    @classmethod
    def of(cls, manifest: dict[str, Any], server_name: str) -> Health:
        """The health check that a release was built with."""
        found = manifest["settings"]["health"]
        return cls(found["path"], found["status"], found["timeout_s"], found.get("warmup_s", 5), server_name)


class Verdict:
    """What probing has shown so far. A pure decision: `see` takes what happened and says whether the gate is decided."""

    def __init__(self, health: Health, started: float) -> None:
        """Begin when the slot was started; `started` is a time of any clock that never goes back."""
        self.health, self.started = health, started
        self.good = 0
        self.first_answer: float | None = None
        self.last = "nothing listened on its socket"

    def see(self, now: float, status: int | None, said: str, attempts: int) -> bool | None:
        """Take one probe: True is healthy, False is failed (`last` says why), None is not decided.

        Args:
            now: seconds on the clock that `started` is from.
            status: the answer's status code; None when there was no answer.
            said: for people: the answer's beginning, or why there was none.
            attempts: how often the Emperor counts the slot's start as failed.
        """
        if status == self.health.status:
            self.good += 1
            return True if self.good >= NEEDED_IN_A_ROW else None
        self.good = 0
        if status is None and attempts >= 1:
            self.last = "uWSGI could not start it"
            return False
        if status is not None:
            self.first_answer = now if self.first_answer is None else self.first_answer
            self.last = f"{self.health.path} answered {status} instead of {self.health.status}: {said.strip()[:300] or '(empty)'}"
            return False if now - self.first_answer >= self.health.warmup_s else None
        if now - self.started >= self.health.timeout_s:
            self.last = (
                f"no healthy answer from {self.health.path} within {self.health.timeout_s:.0f} s; at last {said}"
            )
            return False
        return None


def gate(
    host: AppHost,
    manifest: dict[str, Any],
    server_name: str,
    journal: dict[str, Any],
    *,
    clients: str = CLIENTS,
    again: bool = False,
) -> Slot:
    """Start a slot for a staged release and return it when it is healthy.

    A slot of the release that is live and healthy is kept, if its Emperor is as it must be: there is nothing to start.

    Args:
        host: the app.
        manifest: the release's.
        server_name: Host header of the probes.
        journal: the run's; `candidate` is noted in it before the slot starts.
        clients: the group that must be able to use the slot's socket: NGINX's.
        again: start another slot, however well the live one is.

    Raises:
        ReleaseError: the slot is not healthy; with the last lines of its log. It has been removed.
    """
    health, release = Health.of(manifest, server_name), manifest["id"]
    if host.manifest(release) is None:
        raise ReleaseError(f"release {release} is not complete on this host; nothing was started")
    live = host.live()
    if not again and live and live.release == release and _answers(host, live, health):
        emperor = host.emperor_of(live)
        if emperor and not emperors.outdated(host, emperor, manifest):
            return live
    if not host.run_dir.is_dir():
        raise ReleaseError(
            f"this host has no {host.run_dir}: it was not provisioned for this app. Run playbooks/deploy.yml (or provision.yml) first."
        )
    # Both slots run for a while: neither may be starved by the limits of the other's release.
    sandbox.limit(host, manifest, host.manifest(live.release) if live else None)
    emperor = emperors.ensure(host, manifest)
    slot = host.next_slot(release)
    journal["candidate"] = slot.name
    journals.save(host, journal)
    began = time.time()
    link_atomically(host.release_dir(release) / "vassal.ini", host.vassal(slot, emperor))
    rescan(host, emperor)
    try:
        failure = _wait(host, slot, emperor, health) or _socket_problem(host, slot, clients)
    except BaseException:
        remove_slot(host, slot)
        raise
    if failure is None:
        return slot
    lines = last_lines(host, began)
    hint = sandbox.refused(host, lines, began)
    remove_slot(host, slot)
    serving = f"{live.release} goes on serving" if live else "nothing was live before, so nothing serves now"
    raise ReleaseError(
        f"{slot.release} is not healthy: {failure}. It was removed; {serving}. The last lines of its log:\n{lines}{read_only_hint(lines)}{hint}"
    )


def rescan(host: AppHost, emperor: Emperor) -> None:
    """Make an Emperor look at its directory now rather than at its next turn, a second away at most."""
    try:
        pid = int(uwsgi.stats(host.emperor_stats(emperor))["pid"])
        emperors.signal_process(host, emperor, pid, signal.SIGWINCH)
    except (OSError, ValueError, KeyError, TypeError):
        return  # it looks by itself; a dead Emperor shows in the wait that follows


def remove_slot(host: AppHost, slot: Slot, timeout_s: float = 90.0) -> None:
    """End a slot and remove its files, see `end_slot` and `await_end`."""
    end_slot(host, slot)
    await_end(host, slot, timeout_s)


def end_slot(host: AppHost, slot: Slot) -> None:
    """Have the Emperor end a slot, by removing its vassal file: once it has answered the requests that it holds.

    A slot that still loads its app holds none, and does not listen to the Emperor before it has loaded it: a signal ends it.
    """
    emperor = host.emperor_of(slot)
    if emperor is None:
        return
    pid = None if _loaded(host, slot) else _vassal(host, slot).get("pid")
    host.vassal(slot, emperor).unlink(missing_ok=True)
    rescan(host, emperor)
    if pid:
        wait_until(lambda: _signalled(host, slot, emperor, int(pid)), SIGNAL_S)


def _loaded(host: AppHost, slot: Slot) -> bool:
    """Whether a slot has loaded its app: uWSGI makes the stats socket when it starts the workers."""
    return host.stats(slot).exists()


def _signalled(host: AppHost, slot: Slot, emperor: Emperor, pid: int) -> bool:
    """True once a loading slot was signalled, or no longer needs it (it ended or finished loading: with die-on-term, SIGQUIT would make a loaded slot reload)."""
    found = _vassal(host, slot)
    if found and not _loaded(host, slot):
        # Not before the Emperor lets it end, or it would start it again.
        if not found.get("cursed"):
            return False
        emperors.signal_process(host, emperor, pid, signal.SIGQUIT)
    return True


def await_end(host: AppHost, slot: Slot, timeout_s: float) -> None:
    """Wait until the Emperor has let a slot end, then remove its sockets and metric files."""
    wait_until(lambda: _ended(host, slot), timeout_s)
    for path in (host.socket(slot), host.stats(slot), host.metrics(slot)):
        remove(path)


def _ended(host: AppHost, slot: Slot) -> bool:
    """Whether the Emperor has forgotten the slot. Asking for stats wakes its master, which otherwise looks only once a second."""
    with contextlib.suppress(OSError, ValueError):
        uwsgi.stats(host.stats(slot))
    return not _vassal(host, slot)


def wait_until(done: Callable[[], bool], timeout_s: float) -> bool:
    """Poll until a condition holds; False when it did not in time."""
    deadline = time.monotonic() + timeout_s
    while not done():
        if time.monotonic() >= deadline:
            return False
        time.sleep(POLL_S)
    return True


def _wait(host: AppHost, slot: Slot, emperor: Emperor, health: Health) -> str | None:
    verdict = Verdict(health, time.monotonic())
    while True:
        status, said = None, "nothing listened on its socket"
        try:
            answer = uwsgi.get(host.socket(slot), health.path, health.host, min(health.timeout_s, 5.0))
            status, said = answer.status, answer.body
        except FileNotFoundError:
            pass
        except TimeoutError:
            said = "it took the request and did not answer it"
        except (OSError, ValueError) as error:
            said = str(error)
        decided = verdict.see(time.monotonic(), status, said, _attempts(host, slot, emperor))
        if decided is not None:
            return None if decided else verdict.last
        time.sleep(POLL_S)


def _attempts(host: AppHost, slot: Slot, emperor: Emperor) -> int:
    try:
        accepting, attempts = uwsgi.vassal_state(host.emperor_stats(emperor), host.vassal(slot, emperor).name)
    except FileNotFoundError:
        raise ReleaseError(
            f"the app's Emperor is not running on this host (systemctl status {emperor.unit}); nothing was started"
        ) from None
    except (OSError, ValueError):
        return 0
    return 0 if accepting else attempts


def _vassal(host: AppHost, slot: Slot) -> dict[str, Any]:
    """What the app's Emperors say about a slot; empty when none knows one of that name."""
    for emperor in host.emperors():
        with contextlib.suppress(OSError, ValueError):
            found: list[dict[str, Any]] = uwsgi.stats(host.emperor_stats(emperor)).get("vassals", [])
            for entry in found:
                if entry["id"] == f"{slot.name}.ini":
                    return entry
    return {}


def _answers(host: AppHost, slot: Slot, health: Health) -> bool:
    try:
        return uwsgi.get(host.socket(slot), health.path, health.host, 5.0).status == health.status
    except (OSError, ValueError):
        return False


def _socket_problem(host: AppHost, slot: Slot, clients: str) -> str | None:
    """Why NGINX could not use the slot's socket; None when it can."""
    for path, needed in ((host.run_dir, 0o050), (host.socket(slot), 0o060)):
        try:
            found = path.stat()
        except FileNotFoundError:
            return f"it answered and then went away: there is no {path} any more"
        group = _group_name(found.st_gid)
        if group != clients or stat.S_IMODE(found.st_mode) & needed != needed:
            return f"NGINX could not reach it: {path} belongs to group {group} with mode {stat.S_IMODE(found.st_mode):04o}; expected group {clients} with {needed:04o}"
        if stat.S_IMODE(found.st_mode) & 0o007:
            return f"anyone on the host could reach it: {path} has mode {stat.S_IMODE(found.st_mode):04o}"
    return None


def _group_name(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
