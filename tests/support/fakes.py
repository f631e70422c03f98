"""A uWSGI that is a thread: an app's socket that speaks FastCGI, a stats server, and an Emperor that starts and stops them."""

from __future__ import annotations

import fnmatch
import json
import os
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, ClassVar, cast

from praetor.documents import Manifest, Process, Run
from praetor.host import uwsgi
from praetor.host.emperors import described
from praetor.host.gate import wait_until
from praetor.host.layout import AppHost, Emperor, Layout, Slot, write_atomically

Respond = Callable[[dict[str, str]], bytes | None]


def answer(status: int, body: str = "") -> bytes:
    """What an app sends."""
    return f"Status: {status} X\r\nContent-Type: text/plain\r\n\r\n{body}".encode()


def slow(seconds: float) -> Respond:
    """An app that takes its time."""

    def respond(_: dict[str, str]) -> bytes:
        time.sleep(seconds)
        return answer(200)

    return respond


class Server:
    """Accepts on a unix socket in a thread, one thread for each connection."""

    def __init__(self, path: Path, handle: Callable[[socket.socket], None], backlog: int = 64) -> None:
        self.path, self.handle = path, handle
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(str(path))
        self.listener.listen(backlog)
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._one, args=(connection,), daemon=True).start()

    def _one(self, connection: socket.socket) -> None:
        with connection, suppress(OSError, struct.error):
            self.handle(connection)

    def close(self) -> None:
        """Stop, and vacuum."""
        with suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join(5)
        self.path.unlink(missing_ok=True)


def _receive(connection: socket.socket, count: int) -> bytes:
    received = b""
    while len(received) < count and (chunk := connection.recv(count - len(received))):
        received += chunk
    return received


def variables_of(connection: socket.socket) -> dict[str, str]:
    """Read one request of FastCGI that has no body."""
    params, kind = b"", 0
    while kind != uwsgi.STDIN:
        _, kind, _, length, padding = struct.unpack(">BBHHBx", _receive(connection, 8))
        found = _receive(connection, length + padding)[:length]
        params += found if kind == uwsgi.PARAMS else b""
    texts = []
    while params:
        lengths = [length & 0x7FFFFFFF for length in struct.unpack(">II", params[:8])]
        params = params[8:]
        for length in lengths:
            texts.append(params[:length].decode())
            params = params[length:]
    return dict(zip(texts[::2], texts[1::2], strict=True))


def framed(said: bytes) -> bytes:
    """An answer on its way to NGINX."""
    return uwsgi.record(uwsgi.STDOUT, said) + uwsgi.record(uwsgi.END, bytes(8))


class FakeSlot:
    """A running slot: its socket and its stats. `respond` maps a request's variables to what is sent; None closes without an answer."""

    def __init__(self, host: AppHost, slot: Slot, respond: Respond | int = 200, *, stats: bool = True) -> None:
        self.host, self.slot = host, slot
        self.respond: Respond = respond if callable(respond) else lambda _: answer(int(str(respond)))
        self.counts = {"requests": 0, "exceptions": 0, "harakiri_count": 0, "respawn_count": 1, "busy": 0}
        self.asked: list[dict[str, str]] = []
        self.servers = [Server(host.socket(slot), self._request)]
        os.chmod(host.socket(slot), 0o660)  # noqa: PTH101  not through a Path that may be patched
        if stats:
            self.servers.append(Server(host.stats(slot), self._stats))
        host.metrics(slot).mkdir(exist_ok=True)
        host.state(slot).mkdir(exist_ok=True)
        (host.state(slot) / "watch.json").write_text('{"pid": 4712, "ended": {}}', encoding="utf-8")

    def _request(self, connection: socket.socket) -> None:
        variables = variables_of(connection)
        self.asked.append(variables)
        said = self.respond(variables)
        self.counts["requests"] += 1
        if said:
            connection.sendall(framed(said))

    def _stats(self, connection: socket.socket) -> None:
        counts = dict(self.counts)
        busy = counts.pop("busy")
        worker = {"id": 1, "pid": 4711, "accepting": 1, **counts, "cores": [{"id": 0, "in_request": busy}]}
        connection.sendall(json.dumps({"workers": [worker]}).encode())

    def close(self) -> None:
        """End it."""
        for server in self.servers:
            server.close()


class Systemd:
    """Notes what it was asked to do, and does it well: an Emperor that was started is there."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, ...]] = []

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run systemctl."""
        self.asked.append(arguments)
        running, unit = FakeEmperor.running_now, arguments[-1].removesuffix(".service").partition("@")[2]
        if {"enable", "is-active"} & set(arguments) and running and unit:
            app, _, number = unit.rpartition("-")
            path, deadline = running.layout.run / app / f"emperor-{number}.stats", time.monotonic() + 60
            while not path.exists() and time.monotonic() < deadline:
                time.sleep(0.005)
        return subprocess.CompletedProcess(arguments, 0, "", "")


class Units:
    """A systemd that has units of processes: it starts what has a file, and ends what it is asked to end, at once unless the unit is busy."""

    def __init__(self) -> None:
        self.places: set[Path] = set()
        self.known: dict[str, dict[str, str]] = {}
        self.busy: set[str] = set()  # those that go on with what they do when they are asked to end
        self.broken: set[str] = set()  # releases whose programs end at once
        self.asked: list[tuple[str, ...]] = []

    def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run systemctl."""
        self.asked.append(arguments)
        verb, names = arguments[0], [each for each in arguments[1:] if not each.startswith("-")]
        said = ""
        if verb == "start":
            for name in names:
                self._start(name)
        elif verb == "stop":
            for name in names:
                self._stop(name, wait="--no-block" not in arguments)
        elif verb == "reset-failed":
            for name in names:
                if self.known[name]["ActiveState"] == "failed":
                    self.known.pop(name)
        elif verb == "show":
            said = "\n\n".join(
                "\n".join(f"{key}={value}" for key, value in {"Id": name, **found}.items())
                for name, found in self.known.items()
                if fnmatch.fnmatch(name, names[0])
            )
        return subprocess.CompletedProcess(arguments, 0, said, "")

    def _start(self, name: str) -> None:
        if self.known.get(name, {}).get("ActiveState") == "active":
            return
        template = name.partition("@")[0] + "@.service"
        [file] = [place / template for place in self.places if (place / template).is_file()]
        state = {"ActiveState": "active", "SubState": "running", "NRestarts": "0", "ExecMainCode": "0"}
        state |= {"ExecMainStatus": "0", "MainPID": "1", "Result": "success"}
        if any(f"# Release: {release}\n" in file.read_text(encoding="utf-8") for release in self.broken):
            state |= {"ActiveState": "activating", "SubState": "auto-restart", "NRestarts": "1"}
            state |= {"ExecMainCode": "1", "ExecMainStatus": "3"}
        self.known[name] = state

    def _stop(self, name: str, *, wait: bool) -> None:
        if name in self.known and name in self.busy and not wait:
            self.known[name] |= {"ActiveState": "deactivating", "SubState": "stop-sigterm"}
        else:
            self.known.pop(name, None)

    def end(self, name: str, result: str = "success") -> None:
        """Let a busy unit finish; what did not go well systemd keeps."""
        self.busy.discard(name)
        if result == "success":
            self.known.pop(name)
        else:
            self.known[name] |= {"ActiveState": "failed", "SubState": "failed", "Result": result}

    def power_cut(self, layout: Layout) -> None:
        """Boot again: what has a link is started."""
        self.known.clear()
        for link in (layout.units / "multi-user.target.wants").iterdir():
            self._start(link.name)

    @property
    def running(self) -> list[str]:
        """The units that work."""
        return sorted(name for name, found in self.known.items() if found["ActiveState"] == "active")


class FakeEmperor:
    """Follows the vassals directory as the Emperor does: a file that appears is a slot that starts, one that goes is a slot that ends."""

    running_now: ClassVar[FakeEmperor | None] = None

    def __init__(self, layout: Layout, respond: Callable[[Slot], Respond | int | None] | None = None) -> None:
        FakeEmperor.running_now = self
        self.layout = layout
        self.respond = respond or (lambda _: 200)
        self.slots: dict[str, FakeSlot | None] = {}
        self.started: list[str] = []
        self.halt = threading.Event()
        self.turn = (
            threading.Lock()
        )  # the real one has one thread: it tells of its slots between two looks, never within one
        self.stats: dict[Path, Server] = {}
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()

    def _watch(self) -> None:
        while not self.halt.wait(0.01):
            with self.turn:
                self.look()

    def look(self) -> None:
        """One turn, of every app's Emperors."""
        for directory in self.layout.vassals.glob("*/[0-9]*"):
            if directory not in self.stats:
                host = AppHost(directory.parent.name, self.layout)
                path = host.emperor_stats(Emperor(host.app, int(directory.name)))
                self.stats[directory] = Server(path, self._stats)
        found = {path.name for path in self.layout.vassals.glob("*/*/*.ini")}
        for name in found - set(self.slots):
            slot = Slot.parse(name.removesuffix(".ini"))
            if slot is None:
                continue
            respond = self.respond(slot)
            self.started.append(name)
            self.slots[name] = None if respond is None else FakeSlot(AppHost(slot.app, self.layout), slot, respond)
        for name in set(self.slots) - found:
            ended = self.slots[name]
            if ended:
                ended.close()
            del self.slots[name]

    def _stats(self, connection: socket.socket) -> None:
        with self.turn:
            slots = dict(self.slots)
        vassals = [{"id": name, "accepting": int(slot is not None)} for name, slot in slots.items()]
        blacklist = [{"id": name, "attempt": 1} for name, slot in slots.items() if slot is None]
        connection.sendall(json.dumps({"vassals": vassals, "blacklist": blacklist}).encode())

    def running(self, slot: Slot) -> FakeSlot:
        """The slot that runs under a name."""
        found = self.slots[f"{slot.name}.ini"]
        assert found is not None
        return found

    def close(self) -> None:
        """End all."""
        FakeEmperor.running_now = None
        self.halt.set()
        self.thread.join(5)
        for server in self.stats.values():
            server.close()
        for slot in self.slots.values():
            if slot:
                slot.close()


def layout_in(place: Path) -> Layout:
    """The places of a host, below a directory, with what role uwsgi_emperor puts there."""
    layout = Layout(
        place / "apps",
        place / "vassals",
        place / "run",
        place / "emperor",
        place / "nginx",
        place / "tls",
        place / "units",
        place / "egress",
        place / "nftables.conf",
        place / "held",
    )
    (layout.nginx / "sites").mkdir(parents=True)
    for directory in (*layout[:4], layout.units):
        directory.mkdir(parents=True)
    (layout.units / "uwsgi-emperor@.service").write_text("[Service]\n", encoding="utf-8")
    (layout.emperor / "emperor.ini").write_text("[uwsgi]\n", encoding="utf-8")
    (layout.emperor / "venv-1").mkdir()
    (layout.emperor / "venv").symlink_to(layout.emperor / "venv-1")
    return layout


def host_in(place: Path, app: str = "api") -> AppHost:
    """A provisioned host with one app."""
    return provision(layout_in(place), app)


def provision(layout: Layout, app: str) -> AppHost:
    """Make an app's directories, as the role does, and its first Emperor, as a release does."""
    host = AppHost(app, layout)
    for directory in (host.releases_dir, host.data, host.run_dir, layout.vassals / app):
        directory.mkdir(parents=True)
    host.run_dir.chmod(0o2750)
    put_emperor(host)
    return host


def put_emperor(host: AppHost) -> Emperor:
    """An instance that is as it must be now."""
    emperor = host.next_emperor()
    host.vassals(emperor).mkdir()
    host.drop_in(emperor).parent.mkdir()
    host.drop_in(emperor).write_text(described(host, emperor, manifest_of("1-a")), encoding="utf-8")
    return emperor


def manifest_of(release: str, **changes: Any) -> Manifest:
    """The manifest of a release."""
    health = {"path": "/health/ready", "status": 200, "timeout_s": 60, "warmup_s": 1}
    settings = {"wsgi": "api:app", "profile": "prod", "config": {}, "env": {}, "health": health, "limits": {}}
    settings |= {"server_names": ["api.example"], "limits": {"request_s": 30, "body_mb": 1, "memory_mb": 512}}
    found: Any = {
        "id": release,
        "app": "api",
        "version": release.split("-", maxsplit=1)[0],
        "commit": "c" * 40,
        "dirty": False,
        "source": "app",
        "python": ["cp311"],
        "wheels": {"cp311": []},
        "tree": None,
        "settings": settings,
        "secrets": {},
        **changes,
    }
    return cast("Manifest", found)


def process(name: str = "worker", **changes: Any) -> Process:
    """A process of an entry."""
    found = Process(
        name=name,
        command=["python", "-m", "api.worker"],
        count=None,
        per_host=None,
        one=False,
        notify=False,
        drain_s=60,
        stop_signal="SIGTERM",
        memory_mb=None,
    )
    found.update(changes)  # type: ignore[typeddict-item]
    return found


def put_release(host: AppHost, release: str, *, age_s: float = 0, **changes: Any) -> Manifest:
    """A complete release that was staged some time ago."""
    place = host.release_dir(release)
    place.mkdir()
    (place / "vassal.ini").write_text("[uwsgi]\n", encoding="utf-8")
    manifest = manifest_of(release, **changes)
    (place / "units").mkdir()
    for process in manifest["settings"].get("processes", []):
        (place / "units" / f"{process['name']}@.service").write_text(f"# Release: {release}\n", encoding="utf-8")
    for job in manifest["settings"].get("jobs", []):
        for kind in ("service", "timer"):
            text = f"# Release: {release}\n" if kind == "service" else f"OnCalendar={job['at']}\n"
            (place / "units" / f"{job['name']}.{kind}").write_text(text, encoding="utf-8")
    write_atomically(place / "release.json", json.dumps(manifest), 0o640)
    os.utime(place / "release.json", (time.time() - age_s, time.time() - age_s))
    return manifest


def put_slot(host: AppHost, release: str, count: int) -> Slot:
    """A slot that the Emperor is told to run."""
    slot = Slot(host.app, release, count)
    vassal_of(slot, host).symlink_to(host.release_dir(release) / "vassal.ini")
    return slot


def await_slot(slot: Slot) -> None:
    """Wait until the Emperor has started a slot: its sockets are there before they take anything."""
    running = FakeEmperor.running_now
    assert running
    assert wait_until(lambda: running.slots.get(f"{slot.name}.ini") is not None, 60)


def vassal_of(slot: Slot, host: AppHost) -> Path:
    """The slot's vassal file, whether it is there or not, in the app's newest Emperor."""
    return host.vassal(slot, host.emperors()[-1])


def a_run(name: str = "r1", **changes: Any) -> Run:
    """Who makes a run."""
    owner = {
        "user": "ann",
        "host": "desk",
        "machine": "m/desk",
        "namespace": "pid:[1]",
        "boot": "b",
        "pid": 4242,
        "started": "7",
    }
    found: Any = {"id": name, "owner": owner, "action": "release", "why": "", **changes}
    return cast("Run", found)
