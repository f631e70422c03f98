"""Where a machine cannot carry the lab, it says so at once, names what is missing and what works instead."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from project import ROOT

PREFLIGHT = ROOT / "roles/lab_host/files/preflight"


def run_with(folder: Path, programs: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run the preflight on a machine whose programs answer as given."""
    for name, body in programs.items():
        program = folder / name
        program.write_text(f"#!/bin/sh\n{body}\n")
        program.chmod(0o755)
    environment = {"PATH": f"{folder}:/usr/sbin:/usr/bin:/sbin:/bin"}
    return subprocess.run(
        ["sh", str(PREFLIGHT)], check=False, capture_output=True, text=True, env=environment, timeout=120
    )


@pytest.mark.parametrize(
    ("programs", "missing"),
    [
        ({"uname": "echo Darwin"}, "Linux; this is Darwin"),
        ({"uname": '[ "$1" = -m ] && echo aarch64 || echo Linux'}, "an x86-64 processor; this is aarch64"),
        ({"id": '[ "$1" = -u ] && echo 1000 || echo dev'}, "root, or sudo; you are dev"),
        (
            {"id": "echo 0", "unshare": "echo 'unshare: Operation not permitted' >&2; exit 1"},
            "the right to make namespaces (unshare: Operation not permitted)",
        ),
    ],
)
def test_what_is_missing_is_named_with_the_way_that_works(
    tmp_path: Path, programs: dict[str, str], missing: str
) -> None:
    told = run_with(tmp_path, programs)
    assert told.returncode == 1
    assert missing in told.stderr
    assert "ansible-playbook playbooks/deploy.yml -i inventories/prod" in told.stderr


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    disk = "echo Filesystem 1024-blocks Used Available; echo /dev/x 100 100 51200"
    told = run_with(tmp_path, {"id": "echo 0", "df": disk, "unshare": "exit 1"})
    assert "2 GiB free in /var/lib" in told.stderr
    assert "there are 50 MiB" in told.stderr
