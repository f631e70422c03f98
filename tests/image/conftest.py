"""The image, built once with a docker daemon of the tests, and containers that end with their test."""

from __future__ import annotations

import json
import os
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import engine
import pytest
from engine import docker
from project import ROOT

IMAGE = "flaskapp"
# As the README has it for production.
LOCKED = ["--read-only", "--tmpfs", "/run", "--tmpfs", "/tmp", "--cap-drop", "ALL"]  # noqa: S108  inside
LOCKED += ["--security-opt", "no-new-privileges", "--pids-limit", "200", "--memory", "512m"]


class Container:
    """A container that runs, or has run."""

    def __init__(self, name: str) -> None:
        """Know its name."""
        self.name = name

    def inspect(self, template: str) -> str:
        """One fact that the engine has."""
        return docker("inspect", "--format", template, self.name).stdout.strip()

    @property
    def address(self) -> str:
        """Where it is on the bridge."""
        return self.inspect("{{.NetworkSettings.IPAddress}}")

    def said(self) -> list[dict[str, Any]]:
        """Its lines on stderr; each must be a JSON object."""
        return [json.loads(line) for line in docker("logs", self.name).stderr.splitlines()]

    def messages(self) -> list[str]:
        """What its lines say."""
        return [str(line.get("message", "")) for line in self.said()]

    def run(self, *words: str) -> str:
        """What a program inside prints."""
        return docker("exec", self.name, *words).stdout

    def ready(
        self, port: int = 80, timeout_s: float = 300, address: str = "", path: str = "/health/ready"
    ) -> Container:
        """Wait until it answers that it is ready."""
        deadline = time.monotonic() + timeout_s
        while self.get(path, port, address=address)[0] != 200:
            state = self.inspect("{{.State.Status}}")
            assert state == "running", "\n".join(self.messages()[-10:])
            assert time.monotonic() < deadline, "\n".join(self.messages()[-10:])
            time.sleep(0.1)
        return self

    def get(self, path: str, port: int = 80, *options: str, address: str = "") -> tuple[int, str]:
        """Status and body of an answer; status 0 where there is none."""
        url = f"http://{address or self.address}:{port}{path}"
        command = ["curl", "--silent", "--max-time", "60", "--write-out", "\n%{http_code}", *options, url]
        body, _, status = subprocess.run(command, capture_output=True, text=True, check=False).stdout.rpartition("\n")
        return int(status), body

    def ended(self, timeout_s: float = 300) -> tuple[int, str]:
        """Wait for its end; its exit status, and the last thing that it said."""
        status = int(docker("wait", self.name, timeout_s=timeout_s).stdout)
        return status, next((message for message in reversed(self.messages()) if message), "")


Start = Callable[..., Container]


@pytest.fixture(scope="session")
def daemon() -> Iterator[None]:
    """Run the daemon. A machine where none can run is told why; in CI that is a failure."""
    try:
        with engine.running():
            engine.base("trixie")
            yield
    except engine.NoEngineError as error:
        if os.environ.get("CI") == "true":
            pytest.fail(f"no image was tested: {error}")
        pytest.skip(f"no image was tested: {error}")
    assert engine.left() == []


def build(*words: str, context: str = ".") -> str:
    """Build an image and return its id. What is installed comes from this machine's indexes, which the bridge of the tests does not lead to."""
    return docker("build", "--quiet", "--force-rm", "--network", "host", *words, context, timeout_s=900).stdout.strip()


@pytest.fixture(scope="session")
def image(daemon: None) -> str:  # noqa: ARG001  it must run
    """Build the image as a fresh clone does."""
    build("--tag", IMAGE)
    # As it is written everywhere. By now all of it is in the cache.
    docker("build", "-t", "flaskapp", ".")
    return IMAGE


def stand_in(name: str, tag: str = "") -> str:
    """Build an image that a registry would have, from Debian's packages, and return its name."""
    tag = tag or f"praetor-{name}"
    build("--tag", tag, context=f"tests/image/stand-ins/{name}")
    return tag


@pytest.fixture
def start(image: str) -> Iterator[Start]:
    """Start containers, and remove them after the test."""
    names: list[str] = []

    def begin(*words: str, options: tuple[str, ...] = (), image: str = image) -> Container:
        names.append(f"praetor-{uuid.uuid4().hex[:8]}")
        docker("run", "--detach", "--name", names[-1], *options, image, *words)
        return Container(names[-1])

    yield begin
    for name in names:
        docker("rm", "--force", "--volumes", name)


def inside(image: str, *words: str) -> str:
    """What a program prints that runs in an image as root, with nothing else started."""
    return docker("run", "--rm", "--user", "0", "--entrypoint", words[0], image, *words[1:]).stdout


def facts(image: str) -> dict[str, str]:
    """What the image says about itself."""
    found: dict[str, str] = json.loads(inside(image, "cat", "/etc/praetor-image.json"))
    return found


def git(*words: str) -> str:
    """Ask git of this checkout."""
    command = ["git", "-c", "safe.directory=*", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
