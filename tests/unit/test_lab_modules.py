"""What the lab decides before it touches the machine: which mirror, which network, which owner a file gets."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from lab_bridge import conflict
from lab_controller import archives, source_lines
from lab_machine import Machine

MIRROR = "http://mirror.example/debian"


def test_the_mirror_of_this_machine_is_found_in_what_apt_would_download() -> None:
    targets = (
        "http://contrib.example/debian/|bookworm|contrib\n"
        f"{MIRROR}/|bookworm|main\n{MIRROR}/|bookworm-updates|main\n"
        "http://security.example/debian-security/|bookworm-security|main\nhttps://vendor.example/apt/|nodistro|main\n"
    )
    found = archives(targets, "bookworm")
    assert found == {"main": MIRROR, "updates": MIRROR, "security": "http://security.example/debian-security"}
    assert [line.split("] ")[1] for line in source_lines(found, "trixie")] == [
        f"{MIRROR} trixie main",
        f"{MIRROR} trixie-updates main",
        "http://security.example/debian-security trixie-security main",
    ]


def test_sources_that_say_stable_are_understood() -> None:
    assert archives(f"{MIRROR}/|stable|main\n{MIRROR}/|stable-security|main\n", "trixie") == {
        "main": MIRROR,
        "security": MIRROR,
    }


def test_a_mirror_list_as_on_cloud_images_is_read(tmp_path: Path) -> None:
    (tmp_path / "debian.list").write_text(f"{MIRROR}\nhttp://second.example/debian\n")
    assert archives(f"mirror+file:{tmp_path}/debian.list/|trixie|main\n", "trixie") == {"main": MIRROR}


@pytest.mark.parametrize("uri", ["cdrom:[Debian]/", "file:/srv/debian/", "tor+http://mirror.example/debian/"])
def test_a_source_that_machines_cannot_reach_is_not_used(uri: str) -> None:
    assert archives(f"{uri}|trixie|main\n", "trixie") == {}


@pytest.mark.parametrize(
    ("network", "expected"),
    [("198.18.0.1/24", "eth0 (198.18.0.77/16)"), ("198.19.0.1/24", ""), ("10.0.0.1/24", "docker0 (10.0.0.1/8)")],
)
def test_a_network_that_this_machine_already_has_is_refused(network: str, expected: str) -> None:
    def link(address: str, prefix: int) -> dict[str, Any]:
        return {"addr_info": [{"family": "inet", "local": address, "prefixlen": prefix}]}

    found = {"eth0": link("198.18.0.77", 16), "docker0": link("10.0.0.1", 8), "br-lab": link("198.19.0.1", 24)}
    assert conflict(found, "br-lab", network) == expected


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """Return a machine with nothing on disk yet, over a base tree with one home directory."""
    (tmp_path / "base/home/ops").mkdir(parents=True)
    (tmp_path / "base/home/ops").chmod(0o751)
    (tmp_path / "lab/machines/app1/upper").mkdir(parents=True)
    return Machine({"name": "app1", "lab": "test", "lab_dir": str(tmp_path / "lab"), "address": "198.18.0.11/24"})


def test_a_placed_file_leaves_the_folders_above_it_as_the_base_tree_has_them(machine: Machine, tmp_path: Path) -> None:
    machine.place(tmp_path / "base", "home/ops/.ssh/authorized_keys", "key\n", 0o600)
    upper = machine.dir / "upper"
    modes = {path: (upper / path).stat().st_mode & 0o777 for path in ("home/ops", "home/ops/.ssh")}
    assert modes == {"home/ops": 0o751, "home/ops/.ssh": 0o700}
    placed = upper / "home/ops/.ssh/authorized_keys"
    assert (placed.read_text(), placed.stat().st_mode & 0o777, placed.stat().st_uid) == ("key\n", 0o600, os.getuid())


@pytest.mark.parametrize("text", [None, "", '{"base": '])
def test_a_half_made_disk_is_not_taken_for_whole(machine: Machine, text: str | None) -> None:
    if text is not None:
        (machine.dir / "machine.json").write_text(text)
    assert machine.prepared_as() is None


def test_an_interrupted_preparation_begins_anew(machine: Machine, tmp_path: Path) -> None:
    (machine.dir / "upper/etc").mkdir()
    (machine.dir / "upper/etc/leftover").write_text("x")
    (machine.dir / "machine.json").write_text("{}")
    machine.discard()
    assert sorted(path.name for path in machine.dir.iterdir()) == []
    assert (tmp_path / "base/home/ops").is_dir(), "a base tree is shared by all machines"
