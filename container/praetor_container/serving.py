"""Serve: the app's uWSGI, NGINX in front of it and the exporter next to them, started and ended in the order in which nothing is lost."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import signal
import socket
import threading
import time
from collections.abc import Iterable, Mapping

from praetor.host import uwsgi

from .image import LIBRARY, Image, RefusedError
from .programs import Program, copy, log
from .settings import Settings, misspelt

# As many as NGINX needs; uWSGI reserves memory for each that it may have, and engines give a thousand million.
OPEN_FILES = 16384
RESTART_S = 1.0
UWSGI_GRACE_S = 15.0  # NGINX has ended by then, so no request is under way
_PLAIN = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
_EXPORTER = f"import sys; sys.path.insert(0, '{LIBRARY}'); from app_exporter.__main__ import main; main()"


class Asked:
    """Whether someone asked for the end, and whether they asked twice."""

    def __init__(self) -> None:
        """Listen from now on."""
        self.stop, self.hurry, self.wake = threading.Event(), threading.Event(), threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
            signal.signal(number, self._asked)
        signal.signal(signal.SIGCHLD, lambda *_: self.wake.set())

    def _asked(self, *_: object) -> None:
        if self.stop.is_set():
            self.hurry.set()
        self.stop.set()
        self.wake.set()


def serve(image: Image, found: Settings, environ: Mapping[str, str], env: Mapping[str, str]) -> int:
    """Check, migrate where the app wants that at each start, and serve until someone asks for the end.

    Args:
        image: what was built.
        found: the image's own variables.
        environ: all variables that the container was started with.
        env: what the app finds.

    Raises:
        RefusedError: something does not start, or ended unasked.
    """
    asked = Asked()
    os.umask(0o027)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    for sentence in misspelt(environ):
        log("warning", sentence)
    prepare(image, found)
    steps = [("check", each) for each in image.checks]
    steps += [("migrate", each) for each in image.migrations if found.migrate]
    for name, command in steps:
        run_step(name, command, image, env, asked)
        if asked.stop.is_set():
            return 0
    running = _Running(image, found, env)
    try:
        if running.start(asked):
            log("info", "serving", release=image.release, workers=found.workers, port=found.port)
            running.watch(asked)
            if found.drain_s and not asked.hurry.is_set():
                log("info", f"asked to end: serving for {found.drain_s} s more, until nobody sends requests here")
                asked.hurry.wait(found.drain_s)
        return 0
    finally:
        running.end(asked)


def prepare(image: Image, found: Settings) -> None:
    """Write what is known only now, all of it below /run and /tmp.

    Raises:
        RefusedError: a place cannot be written, or the port cannot be had.
    """
    shutil.rmtree(image.run, ignore_errors=True)  # of this container's life before a restart
    try:
        for place in (image.run, image.run / f"{image.slot}.metrics", image.nginx, image.spool):
            place.mkdir(mode=0o750, parents=True, exist_ok=True)
        for name, text in late_files(image, found).items():
            (image.root / name).write_text(text, encoding="utf-8")
        (image.run / f"{image.slot}.ini").symlink_to(image.place / "vassal.ini")
    except OSError as error:
        raise RefusedError(
            f"{error.filename}: {error.strerror}. /run and /tmp must be writable for user {os.getuid()}: --tmpfs /run --tmpfs /tmp"
        ) from None
    if not os.access(image.data, os.W_OK):
        log(
            "warning",
            f"{image.data} cannot be written by user {os.getuid()} with group {os.getgid()}: an app that keeps data there will fail",
        )


def late_files(image: Image, found: Settings) -> dict[str, str]:
    """The files that are written at each start, by their paths without the leading slash."""
    families = {socket.AF_INET: f"{found.port}", socket.AF_INET6: f"[::]:{found.port}"}
    addresses = [address for family, address in families.items() if bindable(family, found.port)]
    nginx, run = image.nginx.relative_to(image.root), image.run.relative_to(image.root)
    return {
        f"{nginx}/listen.conf": "".join(f"listen {address};\n" for address in addresses),
        f"{nginx}/real_ip.conf": "".join(f"set_real_ip_from {proxy};\n" for proxy in found.trusted_proxies),
        f"{nginx}/proxies.conf": "".join(f"{proxy} proxy;\n" for proxy in found.trusted_proxies),
        # Read after the release's own file: the last word counts.
        f"{run}/container.ini": f"[uwsgi]\nprocesses = {found.workers}\n",
    }


def bindable(family: socket.AddressFamily, port: int) -> bool:
    """Whether NGINX will be able to listen there; a kernel without IPv6 is no mistake.

    Raises:
        RefusedError: the port is taken, or not allowed.
    """
    try:
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            probe.bind(("", port))
    except PermissionError:
        raise RefusedError(
            f"PORT={port}: this engine lets only root have ports below 1024: -e PORT=8080 -p 8085:8080, "
            f"or --sysctl net.ipv4.ip_unprivileged_port_start={port}"
        ) from None
    except OSError as error:
        if family == socket.AF_INET6:
            return False
        raise RefusedError(f"PORT={port}: {error.strerror}") from None
    return True


def run_step(name: str, command: list[str], image: Image, env: Mapping[str, str], asked: Asked) -> None:
    """Run one of the app's own commands; a stop is passed on to it.

    Raises:
        RefusedError: it failed.
    """
    shown = " ".join(command)
    try:
        program = Program(name, command, env, cwd=image.place / "src")
    except OSError as error:
        raise RefusedError(f"{name}: '{shown}': {error.strerror}") from None
    while program.process.poll() is None and not asked.stop.is_set():
        asked.wake.wait(1)
        asked.wake.clear()
    if asked.stop.is_set():
        program.stop(asked.hurry)
        return
    program.heard()
    if program.process.returncode:
        raise RefusedError(
            f"{name}: '{shown}' failed with exit status {program.process.returncode}; what it said is above"
        )


class _Running:
    """The three programs."""

    def __init__(self, image: Image, found: Settings, env: Mapping[str, str]) -> None:
        self._image, self._found, self._env = image, found, env
        self._programs: list[Program] = []
        self._exporter: Program | None = None
        self._exporter_due = 0.0

    def start(self, asked: Asked) -> bool:
        """Start uWSGI, and NGINX when the app answers; False when the end was asked for meanwhile."""
        image = self._image
        files = [str(image.run / f"{image.slot}.ini"), str(image.run / "container.ini")]
        command = [str(image.place / "venv/bin/uwsgi"), "--set-placeholder", f"release={image.place}"]
        command += [word for file in files for word in ("--ini", file)]
        env = {**self._env, "PROMETHEUS_MULTIPROC_DIR": str(image.run / f"{image.slot}.metrics")}
        app = Program("uwsgi", command, env, grace_s=UWSGI_GRACE_S)
        self._programs.append(app)
        if not self._answers(app, asked):
            return False
        read_end, write_end = os.pipe()
        # A pipe of ours: engines differ in whether a user other than root may open the container's stderr by its name.
        link = image.nginx / f"{image.app}.access.log"
        link.unlink(missing_ok=True)
        link.symlink_to(f"/proc/self/fd/{write_end}")
        threading.Thread(target=copy, args=(read_end,), daemon=True).start()
        said = f"daemon off; worker_processes {self._found.workers};"
        command = ["/usr/sbin/nginx", "-e", "stderr", "-c", "/etc/nginx/nginx.conf", "-g", said]
        grace_s = image.longest_s + 2
        nginx = Program("nginx", command, _PLAIN, stop=signal.SIGQUIT, grace_s=grace_s, fds=(write_end,))
        self._programs.insert(0, nginx)
        os.close(write_end)
        return True

    def watch(self, asked: Asked) -> None:
        """Wait until the end is asked for. The exporter is started again when it ends: it costs nobody a request.

        Raises:
            RefusedError: uWSGI or NGINX ended unasked.
        """
        while not asked.stop.is_set():
            if self._found.metrics_listen and self._exporter is None and time.monotonic() >= self._exporter_due:
                self._exporter = self._measure()
            asked.wake.wait(None if self._exporter or not self._found.metrics_listen else RESTART_S)
            asked.wake.clear()
            for program, status in ended(filter(None, [*self._programs, self._exporter])):
                program.heard()
                if program is not self._exporter:
                    raise RefusedError(f"{program.name} ended unasked, {status}: so does the container")
                log("warning", f"the exporter ended, {status}; it is started again, and requests go on")
                self._exporter, self._exporter_due = None, time.monotonic() + RESTART_S

    def end(self, asked: Asked) -> None:
        """NGINX stops accepting and answers what it has; then uWSGI holds no request."""
        if len(self._programs) > 1:
            log(
                "info", f"stopping: requests that are under way are answered, for {self._image.longest_s:.0f} s at most"
            )
        for program in [*self._programs, *filter(None, [self._exporter])]:
            if program.name == "uwsgi" and not self._loaded():
                # It holds no request, and listens to no signal that asks.
                program.process.kill()
            program.stop(asked.hurry)
        if asked.stop.is_set():
            log("info", "stopped")

    def _measure(self) -> Program:
        command = ["/usr/bin/python3", "-IBS", "-c", _EXPORTER, "--listen", self._found.metrics_listen]
        command += ["--logs-directory", "/nonexistent", "--certificates-directory", "/nonexistent"]
        return Program("app_exporter", command, _PLAIN, grace_s=2)

    def _loaded(self) -> bool:
        """Whether uWSGI has started its workers: it makes the stats socket then, and the other one before."""
        return (self._image.run / f"{self._image.slot}.stats").exists()

    def _answers(self, app: Program, asked: Asked) -> bool:
        """Wait for the app's first answer, whatever it says: whether it is ready is for the health check."""
        image, said = self._image, "its socket is not there"
        deadline = time.monotonic() + image.health.timeout_s
        while time.monotonic() < deadline:
            if asked.stop.is_set():
                return False
            if app.process.poll() is not None:
                app.heard()
                raise RefusedError(f"the app did not start ({_status(app.process.returncode)}); what it said is above")
            if self._loaded():
                try:
                    answer = uwsgi.get(image.run / f"{image.slot}.sock", image.health.path, image.server_name, 5)
                except (OSError, ValueError) as error:
                    said = str(error)
                else:
                    if not image.health.is_met(answer.status):
                        log(
                            "warning", f"not ready: {image.health.path} answers {answer.status}", body=answer.body[:300]
                        )
                    return True
            time.sleep(0.02)
        raise RefusedError(f"the app did not answer within {image.health.timeout_s:.0f} s: {said}")


def ended(programs: Iterable[Program]) -> list[tuple[Program, str]]:
    """Bury all that ended, and return those that are programs: the children of the dead belong to the first process of a container."""
    known = {program.process.pid: program for program in programs}
    found = []
    with contextlib.suppress(ChildProcessError):
        while dead := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            if program := known.get(dead.si_pid):
                found.append((program, _status(program.process.wait())))
            else:
                os.waitpid(dead.si_pid, os.WNOHANG)
    return found


def _status(code: int) -> str:
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
