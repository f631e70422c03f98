"""A fresh clone and an ordinary docker: the two commands as they are written, with nothing in any cache and no options that a newcomer would not give."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import engine
import pytest
from conftest import git
from project import ROOT

PLACE = engine.KEPT / f"newcomer-{engine.LAB}"
SOCKET = PLACE / "docker.sock"
ENVIRONMENT = {**engine.ENVIRONMENT, "DOCKER_HOST": f"unix://{SOCKET}"}
START_S = 300  # on a machine that is busy with other things too
# The daemon has the defaults of Debian's package: its own bridge, forwarding, and rules of the firewall. So it gets a network to itself.
DAEMON = f"""
ip link set lo up
until ip link show tap0 >/dev/null 2>&1; do sleep 0.1; done
exec dockerd --host unix://{SOCKET} --data-root {PLACE}/data --exec-root {PLACE}/exec --pidfile {PLACE}/pid
"""


def shell(command: str, cwd: Path = ROOT) -> str:
    """What a line prints that a newcomer types."""
    done = subprocess.run(
        ["sh", "-c", command], env=ENVIRONMENT, cwd=cwd, capture_output=True, text=True, check=False, timeout=1800
    )
    said = f"{done.stdout}{done.stderr}"
    assert done.returncode == 0, f"{command}:\n{said[-6000:]}"
    return said


def end(program: subprocess.Popen[bytes]) -> None:
    """End a program and wait for it."""
    program.send_signal(signal.SIGTERM)
    try:
        program.wait(30)
    except subprocess.TimeoutExpired:
        program.kill()
        program.wait()


@pytest.fixture
def network() -> Iterator[list[str]]:
    """Run an ordinary daemon in a network whose way out a program of this machine's user space is; return what a command in there begins with."""
    assert shutil.which("slirp4netns", path=ENVIRONMENT["PATH"]), "slirp4netns: not installed"
    shutil.rmtree(PLACE, ignore_errors=True)
    PLACE.mkdir(parents=True)
    with contextlib.ExitStack() as running, (PLACE / "log").open("wb") as log:
        running.callback(shutil.rmtree, PLACE)
        daemon = subprocess.Popen(
            ["unshare", "--net", "--mount", "sh", "-c", DAEMON],
            env=ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        running.callback(end, daemon)
        time.sleep(1)  # it has its network by then
        way_out = ["slirp4netns", "--configure", "--mtu=1500", str(daemon.pid), "tap0"]
        running.callback(end, subprocess.Popen(way_out, env=ENVIRONMENT, stdout=log, stderr=log))
        deadline = time.monotonic() + START_S
        while subprocess.run(["docker", "info"], env=ENVIRONMENT, capture_output=True, check=False).returncode:
            assert daemon.poll() is None, (PLACE / "log").read_text()[-3000:]
            assert time.monotonic() < deadline, (PLACE / "log").read_text()[-3000:]
            time.sleep(0.2)
        yield ["nsenter", f"--target={daemon.pid}", "--net", "--mount"]


def read(terminal: int, said: list[str]) -> None:
    """Collect what a terminal shows, until nobody has it open."""
    with contextlib.suppress(OSError):
        while data := os.read(terminal, 4096):
            said.append(data.decode(errors="replace"))


@pytest.mark.long
@pytest.mark.usefixtures("daemon")
def test_both_commands_of_the_readme_work_in_a_fresh_clone(network: list[str], tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    git("clone", "--quiet", str(ROOT), str(clone))
    readme = (clone / "README.md").read_text(encoding="utf-8")
    build, run = "docker build -t flaskapp .", "docker run -p 8085:80 -it flaskapp:latest"
    assert f"\n    {build}\n    {run} " in readme
    # A registry would have it.
    base = engine.base("trixie")
    with subprocess.Popen(["docker", "save", base], env=engine.ENVIRONMENT, stdout=subprocess.PIPE) as kept:
        subprocess.run(["docker", "load"], env=ENVIRONMENT, stdin=kept.stdout, stdout=subprocess.DEVNULL, check=True)
    assert shell("docker images --quiet").count("\n") == 1
    began = time.monotonic()
    said = shell(build, clone)
    print(f"$ {build}\n{said}\n({time.monotonic() - began:.0f} s)\n$ {run}")  # noqa: T201  for the record
    assert "Successfully tagged flaskapp:latest" in said
    terminal, inside = pty.openpty()
    client = subprocess.Popen(
        run.split(), env=ENVIRONMENT, stdin=inside, stdout=inside, stderr=inside, start_new_session=True
    )
    os.close(inside)
    shown: list[str] = []
    reader = threading.Thread(target=read, args=(terminal, shown))
    reader.start()
    try:
        ask = [*network, "curl", "--silent", "--max-time", "10", "http://localhost:8085/health/ready"]
        deadline = time.monotonic() + START_S
        while not (answer := subprocess.run(ask, capture_output=True, text=True, check=False).stdout):
            assert client.poll() is None, shown
            assert time.monotonic() < deadline, shown
            time.sleep(0.2)
        assert json.loads(answer) == {"status": "ok"}
        os.write(terminal, b"\x03")
        assert client.wait(60) == 0
    finally:
        if client.poll() is None:
            client.kill()
            client.wait()
        reader.join(10)
        os.close(terminal)
        print("".join(shown).replace("\r\n", "\n"))  # noqa: T201  for the record
