"""Gate: start a release's slot and probe its private socket until it is healthy. It serves no client yet."""

from __future__ import annotations

import contextlib
import grp
import os
import pathlib
import signal
import stat
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from . import egress, emperors, sandbox, uwsgi
from . import journal as journals
from .layout import AppHost, Emperor, ReleaseError, Slot, link_atomically, remove
from .logs import advice, last_lines

if TYPE_CHECKING:
    from praetor.documents import Journal, Manifest, Vassal

NEEDED_IN_A_ROW = 2  # one good answer can be luck
CLIENTS = "www-data"
POLL_S = 0.05
EMPEROR_S = 1.0  # an Emperor that was started this moment makes its stats socket
SIGNAL_S = 3.0  # by then the Emperor has read its directory, however busy it is


class Health(NamedTuple):
    """When a slot is healthy: what to ask, what to expect, how long to wait."""

    path: str
    status: int | None  # None: any below 500
    timeout_s: float  # from the slot's start to its first answer
    warmup_s: float  # from its first answer to the expected one
    host: str  # the Host header: a server name of the app

    @classmethod
    def of(cls, manifest: Manifest, server_name: str) -> Health:
        """The health check that a release was built with; a release that names no path shows no more than that it answers."""
        found = manifest["settings"]["health"]
        path, status = found["path"], found["status"]
        status = status or (200 if path else None)
        return cls(path or "/", status, found["timeout_s"], found.get("warmup_s", 5), server_name)

    def is_met(self, status: int | None) -> bool:
        """Whether an answer of this status is a healthy one."""
        return status is not None and (status < 500 if self.status is None else status == self.status)

    @property
    def expected(self) -> str:
        """In words, what a healthy answer is."""
        return "anything below 500" if self.status is None else str(self.status)


class Probe(NamedTuple):
    """What one look at a slot has shown."""

    status: int | None  # of the answer; None when there was none
    said: str  # for people: the answer's beginning, or why there was none
    failed: str = ""  # why the slot cannot become healthy any more
    loading: str = ""  # who has not loaded the app yet


class Verdict:
    """What probing has shown so far. A pure decision: `see` takes what happened and says whether the gate is decided."""

    def __init__(self, health: Health, started: float) -> None:
        """Begin when the slot was started; `started` is a time of any clock that never goes back."""
        self.health, self.started = health, started
        self.good = 0
        self.first_answer: float | None = None
        self.first_good: float | None = None
        self.last = "nothing listened on its socket"

    def see(self, now: float, probe: Probe) -> bool | None:
        """Take one probe, at `now` on the clock that `started` is from: True is healthy, False is failed (`last` says why), None is not decided."""
        if probe.failed:
            self.last = probe.failed
            return False
        late = now - self.started >= self.health.timeout_s
        if self.health.is_met(probe.status):
            # One worker can answer while another is still loading: a flip would send all requests to the first.
            # They load it after the first, and have as long.
            self.first_good = now if self.first_good is None else self.first_good
            if probe.loading:
                self.good = 0
                self.last = f"{probe.loading} within {self.health.timeout_s:.0f} s of the first"
                return False if now - self.first_good >= self.health.timeout_s else None
            self.good += 1
            return True if self.good >= NEEDED_IN_A_ROW else None
        self.good = 0
        if probe.status is not None:
            self.first_answer = now if self.first_answer is None else self.first_answer
            self.last = f"{self.health.path} answered {probe.status} instead of {self.health.expected}: {probe.said.strip()[:300] or '(empty)'}"
            return False if now - self.first_answer >= self.health.warmup_s else None
        if late:
            self.last = (
                f"no healthy answer from {self.health.path} within {self.health.timeout_s:.0f} s; at last {probe.said}"
            )
            if probe.loading:
                self.last += f" ({probe.loading})"
            return False
        return None


def gate(
    host: AppHost,
    manifest: Manifest,
    server_name: str,
    journal: Journal,
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
    release = manifest["id"]
    if host.manifest(release) is None:
        raise ReleaseError(f"release {release} is not complete on this host; nothing was started")
    if not host.serves(release):
        return _without_vassal(host, manifest, journal, again=again)
    live, health = host.live(), Health.of(manifest, server_name)
    if not again and live and live.release == release and _answers(host, live, health):
        emperor = host.emperor_of(live)
        if emperor and not emperors.outdated(host, emperor, manifest):
            return live
    if not host.run_dir.is_dir():
        raise ReleaseError(
            f"this host has no {host.run_dir}: it was not provisioned for this app. Run playbooks/deploy.yml (or provision.yml) first."
        )
    _limit(host, manifest, live)
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
    told = _told(host, began)
    remove_slot(host, slot)
    serving = f"{live.release} goes on serving" if live else "nothing was live before, so nothing serves now"
    raise ReleaseError(f"{slot.release} is not healthy: {failure}. It was removed; {serving}. {told}")


def _told(host: AppHost, began: float) -> str:
    """What the app's log and the kernel say since `began`, in seconds since 1970, with the key that helps if one is known."""
    lines = last_lines(host, began)
    return (
        f"The last lines of its log:\n{lines}{advice(lines)}{sandbox.refused(host, lines, began)}{egress.explain(host)}"
    )


def _limit(host: AppHost, manifest: Manifest, live: Slot | None) -> None:
    """Both releases run for a while: neither may be starved or cut off by what is set for the other."""
    both = (manifest, host.manifest(live.release) if live else None)
    sandbox.limit(host, *both)
    egress.limit(host, *both)


def _without_vassal(host: AppHost, manifest: Manifest, journal: Journal, *, again: bool) -> Slot:
    """The number under which a release's processes and jobs start; the live one, if this release is live."""
    live = host.live()
    if live and live.release == manifest["id"] and not again:
        return live
    _limit(host, manifest, live)
    slot = host.next_slot(manifest["id"])
    journal["candidate"] = slot.name
    journals.save(host, journal)
    return slot


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
    """Have the Emperor end a slot once it has answered the requests that it holds, by removing its vassal file.

    A slot that still loads its app holds none, and does not listen to the Emperor before it has loaded it: a signal ends it.
    """
    emperor = host.emperor_of(slot)
    if emperor is None:
        return
    loading = None
    with contextlib.suppress(TimeoutError):
        loading = None if _loaded(host, slot) else _vassal(host, slot)
    host.vassal(slot, emperor).unlink(missing_ok=True)
    rescan(host, emperor)
    if loading and (pid := loading.get("pid")):
        _signal_loading(host, slot, emperor, pid)


def _loaded(host: AppHost, slot: Slot) -> bool:
    """Whether a slot has loaded its app: uWSGI makes the stats socket when it starts the workers."""
    return host.stats(slot).exists()


def _signal_loading(host: AppHost, slot: Slot, emperor: Emperor, pid: int) -> None:
    """Signal a slot that loads its app, as soon as the Emperor has given it up: before, the Emperor would start it again."""

    def decided() -> bool:
        return _gone(host, slot) or _cursed(host, slot) is not None or _loaded(host, slot)

    wait_until(decided, SIGNAL_S)
    # One that has loaded meanwhile listens to the Emperor; with die-on-term, SIGQUIT would make it reload. One that has ended is unknown.
    if not _loaded(host, slot) and _cursed(host, slot):
        emperors.signal_process(host, emperor, pid, signal.SIGQUIT)


def await_end(host: AppHost, slot: Slot, timeout_s: float) -> None:
    """Wait until the Emperor has let a slot end, then remove its sockets and metric files."""
    wait_until(lambda: _ended(host, slot), timeout_s)
    for path in (host.socket(slot), host.stats(slot), host.metrics(slot), host.state(slot)):
        remove(path)


def _ended(host: AppHost, slot: Slot) -> bool:
    """Whether a slot is unknown to the Emperor by now. Asking for its stats wakes its master, which otherwise looks after its workers once a second."""
    _kill_loading_workers(host, slot)
    with contextlib.suppress(OSError, ValueError):
        uwsgi.stats(host.stats(slot), 0.3)
    return _gone(host, slot)


def _kill_loading_workers(host: AppHost, slot: Slot) -> None:
    """Kill the workers of an ending slot that have not loaded the app: they hold no request.

    uWSGI's signal comes to nothing while they begin. In one that was forked this instant it even runs the master's handler, which waits
    for the slot's end, and the master waits for the worker's.
    """
    found, manifest = _cursed(host, slot), host.manifest(slot.release)
    # Where the master loads the app, workers note nothing: they have it from the beginning.
    if found is None or manifest is None or manifest["settings"].get("preload") is not False:
        return
    notes = uwsgi.notes(host.state(slot))
    loaded = {note.get("pid") for note in notes.values() if note.get("loaded")}
    for pid in _workers_of(found["pid"], host):
        if pid not in loaded:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _workers_of(master: int, host: AppHost) -> list[int]:
    """The processes that a slot's master has forked as workers. What it has started as daemons has another command line."""
    try:
        if pathlib.Path(f"/proc/{master}").stat().st_uid != host.run_dir.stat().st_uid:
            return []  # its number is another's by now
        own = _command_line(master)
        children = pathlib.Path(f"/proc/{master}/task/{master}/children").read_text(encoding="ascii").split()
        named = {int(pid): _command_line(int(pid)) for pid in children}
    except OSError:
        return []
    return [pid for pid, line in named.items() if line == own or b" uWSGI worker " in line]


def _command_line(pid: int) -> bytes:
    try:
        return pathlib.Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


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
        decided = verdict.see(time.monotonic(), _probe(host, slot, emperor, health))
        if decided is not None:
            return None if decided else verdict.last
        time.sleep(POLL_S)


def _probe(host: AppHost, slot: Slot, emperor: Emperor, health: Health) -> Probe:
    workers = _workers(host, slot)
    if workers.failed:
        return Probe(None, "", workers.failed)
    status, said = None, "nothing listened on its socket"
    # The socket takes requests already, and who waits for an answer does not see that the app cannot be loaded.
    if workers.loaded == 0:
        said = "no worker had loaded the app"
    elif workers.loaded:
        try:
            answer = uwsgi.get(host.socket(slot), health.path, health.host, min(health.timeout_s, 5.0))
            status = answer.status
            said = f"Location: {answer.location}" if answer.location else answer.body
        except FileNotFoundError:
            pass
        except TimeoutError:
            said = "it took the request and did not answer it"
        except (OSError, ValueError) as error:
            said = str(error)
    if status is None and _attempts(host, slot, emperor) >= 1:
        return Probe(None, said, "uWSGI could not start it")
    return Probe(status, said, "", workers.loading)


class _Workers(NamedTuple):
    """How far a slot's workers are."""

    loaded: int | None = None  # None: not known
    loading: str = ""  # which have not loaded the app yet
    failed: str = ""  # why they never will


def _workers(host: AppHost, slot: Slot) -> _Workers:
    notes = uwsgi.notes(host.state(slot))
    for name, note in sorted(notes.items()):
        if note.get("failures"):
            return _Workers(failed=f"worker {name} could not load the app: {note.get('error')}")
    try:
        found = uwsgi.counters(host.stats(slot))
    except (OSError, ValueError):
        return _Workers(loading="it did not tell which of its workers had loaded the app")
    if found.respawns:
        return _Workers(failed=f"{found.respawns} of its workers died before it was live")
    if found.loading:
        named = f"worker{'s' if len(found.loading) > 1 else ''} {', '.join(map(str, found.loading))}"
        return _Workers(found.workers - len(found.loading), f"{named} of {found.workers} had not loaded the app")
    return _Workers(found.workers, "" if "watch" in notes else "the watch over its requests had not begun")


def _attempts(host: AppHost, slot: Slot, emperor: Emperor) -> int:
    try:
        accepting, attempts = uwsgi.vassal_state(host.emperor_stats(emperor), host.vassal(slot, emperor).name)
    except FileNotFoundError:
        if wait_until(host.emperor_stats(emperor).exists, EMPEROR_S):
            return 0
        raise ReleaseError(
            f"the app's Emperor is not running on this host (systemctl status {emperor.unit}); nothing was started"
        ) from None
    except (OSError, ValueError):
        return 0
    return 0 if accepting else attempts


def _vassal(host: AppHost, slot: Slot) -> Vassal | None:
    """What the app's Emperors say about a slot; None when none knows one of that name.

    Raises:
        TimeoutError: an Emperor is late, which says nothing about the slot.
    """
    for emperor in host.emperors():
        try:
            for entry in uwsgi.stats(host.emperor_stats(emperor)).get("vassals", []):
                if entry["id"] == f"{slot.name}.ini":
                    return entry
        except TimeoutError:
            raise
        except (OSError, ValueError):
            continue
    return None


def _gone(host: AppHost, slot: Slot) -> bool:
    """Whether no Emperor of the app knows a slot any more."""
    try:
        return _vassal(host, slot) is None
    except TimeoutError:
        return False


def _cursed(host: AppHost, slot: Slot) -> Vassal | None:
    """The same, for a slot that its Emperor is ending."""
    try:
        found = _vassal(host, slot)
    except TimeoutError:
        return None
    return found if found and found.get("cursed") else None


def _answers(host: AppHost, slot: Slot, health: Health) -> bool:
    try:
        return health.is_met(uwsgi.get(host.socket(slot), health.path, health.host, 5.0).status)
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
