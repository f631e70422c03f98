"""An operator's mistake that cuts SSH undoes itself, and other hosts find the doors closed."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from attack import play, recap
from project import ROOT
from testinfra.host import Host

CONNECT = """
import socket, sys
try:
    socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=3).close()
    print("open")
except TimeoutError:
    print("dropped")
except OSError as error:
    print(error)
"""
CLOSED = [22, 3031, 8091, 9090, 9100, 9113, 9117, 9443, 19532]
Row = Callable[[str, str, str], None]


@pytest.mark.parametrize("port", CLOSED)
def test_another_host_finds_every_port_closed_but_the_sites(
    outsider: Host, settings: dict[str, Any], port: int, row: Row
) -> None:
    address = settings["address"]
    assert outsider.check_output("python3 -c %s %s 80", CONNECT, address) == "open"
    seen = outsider.check_output("python3 -c %s %s %s", CONNECT, address, str(port))
    row(f"port {port} from another host", "dropped", seen)


@pytest.fixture(scope="module")
def other_keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of what provisions hosts, in which somebody has edited the role: it takes another kind of key than the lab's."""
    tree = tmp_path_factory.mktemp("edited")
    for path in ROOT.iterdir():
        if path.name in {"playbooks", "roles"}:
            shutil.copytree(path, tree / path.name)
        else:
            (tree / path.name).symlink_to(path)
    settings = tree / "roles/ssh/vars/main.yml"
    text, count = re.subn(r"(?m)^__ssh_keys:\n(  - .*\n)+", "__ssh_keys: [rsa-sha2-512]\n", settings.read_text())
    assert count == 1
    settings.write_text(text)
    return tree


def test_a_firewall_that_locks_the_controller_out_is_undone_by_the_host(host_name: str, row: Row) -> None:
    mistake = {"firewall_admin_networks": ["203.0.113.1"], "firewall_undo_s": 20}
    row("firewall that locks the controller out", "undone", undone("firewall", host_name, mistake, ROOT))


def test_an_ssh_that_locks_the_controller_out_is_undone_by_the_host(host_name: str, other_keys: Path, row: Row) -> None:
    row("ssh that locks the controller out", "undone", undone("ssh", host_name, {"ssh_undo_s": 20}, other_keys))


def undone(tag: str, host_name: str, mistake: dict[str, Any], tree: Path) -> str:
    """Make the mistake, and return what came of it."""
    done = play("provision", "--tags", tag, "--limit", host_name, "-e", json.dumps(mistake), tree=tree)
    said = " ".join(done.stdout.split())
    assert done.returncode != 0
    # Who notices first depends on how busy the machine is: the controller, or the host that hears from nobody.
    assert (
        "The host undoes it by itself and answers again after" in said
        or "nobody confirmed in time: the host has undone it" in said
    ), said[-2000:]
    # What came back is what was confirmed before: the right ones change nothing.
    again = play("provision", "--tags", tag, "--limit", host_name)
    assert again.returncode == 0, again.stdout[-2000:]
    return "undone" if "changed=0" in recap(again, host_name) else recap(again, host_name)


def test_a_group_that_the_operator_is_not_in_is_refused_before_anything_changes(host_name: str, row: Row) -> None:
    done = play("provision", "--tags", "ssh", "--limit", host_name, "-e", json.dumps({"ssh_allow_groups": ["staff"]}))
    assert "ssh_allow_groups: found staff, expected a group of ops" in " ".join(done.stdout.split())
    assert "changed=0" in recap(done, host_name)
    row("AllowGroups without the operator", "refused", "refused" if done.returncode else "accepted")
