"""What is in an image, and that it is what hosts get."""

from __future__ import annotations

import json

from conftest import inside
from engine import docker

LARGEST_MB = 190


def test_it_is_small(image: str) -> None:
    size = int(docker("image", "inspect", "--format", "{{.Size}}", image).stdout)
    assert size <= LARGEST_MB * 1_000_000


def test_no_other_port_than_that_of_clients_can_be_published_by_chance(image: str) -> None:
    assert json.loads(docker("image", "inspect", "--format", "{{json .Config.ExposedPorts}}", image).stdout) == {
        "80/tcp": {}
    }


def test_nothing_in_it_lends_rights_or_can_be_written_by_everybody(image: str) -> None:
    assert inside(image, "find", "/", "-xdev", "-type", "f", "-perm", "/6000") == ""
    writable = inside(image, "find", "/", "-xdev", "-perm", "-0002", "-not", "-type", "l", "-not", "-type", "c").split()
    assert set(writable) <= {"/tmp", "/var/tmp", "/run", "/run/lock", "/dev/mqueue", "/dev/shm"}  # noqa: S108  with the sticky bit
    # The image's user, and any other with group 0, writes to the data directory and to nothing else.
    own = inside(image, "find", "/", "-xdev", "-user", "10001", "-perm", "/0200")
    group = inside(
        image,
        "find",
        "/",
        "-xdev",
        "(",
        "-group",
        "10001",
        "-o",
        "-group",
        "0",
        ")",
        "-perm",
        "/0020",
        "-not",
        "-type",
        "l",
    )
    found = {path for path in (own + group).split() if not path.startswith(("/proc", "/dev"))}
    assert found - set(writable) == {"/srv/apps/api/data"}


def test_no_secret_and_no_tool_of_the_build_is_in_it(image: str) -> None:
    names = inside(
        image,
        "find",
        "/",
        "-xdev",
        "-name",
        "*vault*",
        "-o",
        "-name",
        "git",
        "-o",
        "-name",
        "ansible*",
        "-o",
        "-name",
        "uv",
    )
    assert names == ""
