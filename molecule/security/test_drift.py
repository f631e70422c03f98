"""Whoever changes a host behind the project's back is seen by `verify`, and `verify` itself changes nothing."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from attack import INVENTORY, as_root, play, run

Row = Callable[[str, str, str], None]

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIBLkFGVXw0a0nE3CGkNbjZ8Z2xkcmlmdGRyaWZ0ZHJp drift"
PROVOKE = f"""
import pathlib, subprocess
with open("/etc/fail2ban/jail.local", "a") as file:
    file.write("# changed by hand\\n")
place = pathlib.Path("/etc/systemd/system/nginx.service.d/zz-weaker.conf")
place.write_text("[Service]\\nNoNewPrivileges=no\\nProtectSystem=no\\n")
subprocess.run(["systemctl", "daemon-reload"], check=True)
with open("/home/ops/.ssh/authorized_keys", "a") as file:
    file.write("{KEY}\\n")
subprocess.run(["systemd-run", "--quiet", "--unit=drift-listener", "python3", "-m", "http.server", "8099"], check=True)
subprocess.run(["nft", "add", "rule", "inet", "praetor", "input", "tcp", "dport", "8099", "accept"], check=True)
"""
REPAIR = f"""
import pathlib, subprocess
pathlib.Path("/etc/systemd/system/nginx.service.d/zz-weaker.conf").unlink()
subprocess.run(["systemctl", "stop", "drift-listener.service"])
subprocess.run(["systemctl", "daemon-reload"])
keys = pathlib.Path("/home/ops/.ssh/authorized_keys")
keys.write_text(keys.read_text().replace("{KEY}\\n", ""))
"""
# What was provoked, and the promise that must be broken by it.
EXPECTED = {
    "a managed file was changed": "nothing was changed behind the back of the project",
    "an extra port listens": "nothing is open to the network but ssh and the sites",
    "a unit was weakened": "a unit is as the project and debian wrote it (nginx)",
    "an unknown SSH key": "every key that may log in is known",
    "a rule was added by hand": "the firewall is the one that was confirmed",
}
ONLY = "behind_the_back or open_to_the_network or debian_wrote_it or every_key or firewall_is"


@pytest.fixture(scope="module")
def table(fleet: dict[str, Any]) -> Iterator[list[str]]:
    """Provoke everything on one host, and return the lines of verify's table."""
    as_root(fleet["app1"], PROVOKE)
    try:
        options = ["--promises", "--drift", "--tb=no", "-k", ONLY, "--ansible-inventory", str(INVENTORY)]
        done = run(sys.executable, "-m", "pytest", "-q", "tests/hosts", *options)
        yield done.stdout.splitlines()
    finally:
        as_root(fleet["app1"], REPAIR)


@pytest.mark.parametrize("what", EXPECTED)
def test_drift_is_a_broken_promise(table: list[str], what: str, row: Row) -> None:
    promise = EXPECTED[what]
    said = {
        line.split()[0]: line.split()[1] for line in table if promise in line and line.split()[1] in {"kept", "BROKEN"}
    }
    assert said.get("app2") == "kept", "\n".join(table[-60:])
    row(what, "BROKEN", said.get("app1", "nothing"))


def test_provision_repairs_what_was_changed(table: list[str], fleet: dict[str, dict[str, Any]], row: Row) -> None:
    assert table
    done = play("provision", "--tags", "firewall,fail2ban", "--limit", "app1")
    assert done.returncode == 0, done.stdout[-2000:]
    text = as_root(fleet["app1"], "print(open('/etc/fail2ban/jail.local').read())")
    rules = as_root(
        fleet["app1"], "import subprocess; print(subprocess.check_output(['nft', 'list', 'ruleset'], text=True))"
    )
    left = "by hand" in text or "8099" in rules
    row("provision after a change by hand", "repaired", "left" if left else "repaired")
