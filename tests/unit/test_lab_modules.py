"""What the lab decides before it touches the machine: which mirror, which network, which owner a file gets."""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path
from typing import Any

import jinja2
import pytest
from lab_bridge import conflict
from lab_controller import archives, inotify_needed, recipe_digest, source_lines
from lab_machine import Machine
from project import ROOT, files_of, imported, load

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


def test_labs_fleets_molecules_machines_and_the_images_daemon_have_networks_that_no_other_number_has() -> None:
    engine, jinja = imported("tests/image/engine.py"), jinja2.Environment(autoescape=True)
    texts = {
        load(path)["lab_host_network"]
        for path in files_of(
            "inventories/*/group_vars/all/lab_host.yml", "molecule/*/inventory/group_vars/all/lab_host.yml"
        )
    }
    assert len(texts) == 3  # the scenarios of Molecule have the same: one of them runs at a time
    found = [
        jinja.from_string(text).render(lookup=lambda *_, number=number, **__: str(number))
        for text in texts
        for number in engine.NUMBERS
    ]
    found += [engine.network(number) for number in engine.NUMBERS]
    assert len(found) == len(set(found)) == 400
    for each in found:
        assert ipaddress.ip_address(f"{each}.1") in ipaddress.ip_network("198.18.0.0/15")


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """Return a machine with nothing on disk yet, over a base tree with one home directory."""
    (tmp_path / "base/home/ops").mkdir(parents=True)
    (tmp_path / "base/home/ops").chmod(0o751)
    (tmp_path / "lab/machines/app1/upper").mkdir(parents=True)
    (tmp_path / "lab/ssh").mkdir()
    for name in ("id_ed25519.pub", "app1.host_key", "app1.host_key.pub"):
        (tmp_path / "lab/ssh" / name).write_text(f"{name}\n")
    params = {"name": "app1", "lab": "test", "lab_dir": str(tmp_path / "lab"), "address": "198.18.0.11/24"}
    params |= {"base": str(tmp_path / "base"), "bridge": "br-test", "proxy": "http://198.18.0.1:3128", "user": "ops"}
    return Machine({**params, "hosts": {"app1": "198.18.0.11"}, "kept_dir": str(tmp_path / "kept"), "recipe": "r1"})


def test_a_machine_more_in_the_inventory_is_no_other_machine(machine: Machine) -> None:
    before = machine.describe()
    machine.params = {**machine.params, "hosts": {"app1": "198.18.0.11", "app2": "198.18.0.12"}}
    assert machine.describe() == before, "this machine would be made again, and its disk lost"
    (machine.dir / "upper/etc").mkdir()
    assert machine.name_others()
    assert "198.18.0.12 app2\n" in (machine.dir / "upper/etc/hosts").read_text()
    assert not machine.name_others()


def test_ssh_finds_a_host_key_by_the_address_it_connects_to(machine: Machine, tmp_path: Path) -> None:
    machine.host_key()
    (tmp_path / "lab/ssh/app1.host_key.pub").unlink()
    assert machine.known_hosts() == tmp_path / "lab/ssh/198.18.0.11.known_hosts"
    text = (ROOT / "inventories/lab/group_vars/all/ansible.yml").read_text()
    assert "/ssh/%h.known_hosts" in text


def test_a_kept_tree_is_found_by_what_made_it_and_lies_between_base_and_disk(machine: Machine, tmp_path: Path) -> None:
    place = machine.kept()
    assert place is not None
    assert place.parent == tmp_path / "kept"
    (place / "home/ops").mkdir(parents=True)
    (place / "home/ops").chmod(0o700)
    machine.prepare(machine.describe())
    assert machine.layers() == [str(place), str(tmp_path / "base")]
    assert (machine.dir / "upper/home/ops").stat().st_mode & 0o777 == 0o700, "as in the kept tree, not as below it"
    for other in ({"recipe": "r2"}, {"base": "/other"}, {"address": "198.18.0.12/24"}):
        assert Machine({**machine.params, **other}).kept() != place
    assert Machine({**machine.params, "recipe": ""}).kept() is None


def test_a_recipe_is_what_its_files_say_and_where_they_lie(tmp_path: Path) -> None:
    (tmp_path / "roles/a").mkdir(parents=True)
    (tmp_path / "roles/a/x.yml").write_text("1")
    first = recipe_digest([str(tmp_path / "roles")])
    (tmp_path / "roles/a/__pycache__").mkdir()
    (tmp_path / "roles/a/__pycache__/x.pyc").write_text("1")
    assert recipe_digest([str(tmp_path / "roles")]) == first
    (tmp_path / "roles/a/x.yml").rename(tmp_path / "roles/a/y.yml")
    assert recipe_digest([str(tmp_path / "roles")]) != first
    assert recipe_digest([]) == ""
    with pytest.raises(FileNotFoundError, match="nowhere"):
        recipe_digest([str(tmp_path / "nowhere")])


def test_the_machines_of_all_labs_need_room_for_inotify(tmp_path: Path) -> None:
    for name in ("mine/machines/app1", "mine/machines/gone", "theirs/machines/app1"):
        (tmp_path / name).mkdir(parents=True)
    assert inotify_needed(tmp_path / "mine", ["app1", "app2"]) == 20 + 10 * 4


def test_a_placed_file_leaves_the_folders_above_it_as_the_base_tree_has_them(machine: Machine, tmp_path: Path) -> None:
    machine.place([tmp_path / "base"], "home/ops/.ssh/authorized_keys", "key\n", 0o600)
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
