"""Talks to the host's systemd."""

from __future__ import annotations

import os
import pathlib
import subprocess

from .layout import remove, sync_directory


def systemctl(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run systemctl, and return what it said in its own language; it fails where there is none, as in an image that is filled."""
    environment = {"LC_ALL": "C", "PATH": "/usr/bin:/bin"}
    command = ["systemctl", *arguments]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    except FileNotFoundError:
        return subprocess.CompletedProcess(command, 127, "", "there is no systemctl")


def show(pattern: str, *properties: str) -> list[dict[str, str]]:
    """Properties of the units that systemd knows and whose names fit a pattern."""
    said = systemctl("show", "--all", f"--property=Id,{','.join(properties)}", "--", pattern).stdout
    blocks = (block.splitlines() for block in said.strip().split("\n\n"))
    found = [dict(line.partition("=")[::2] for line in lines) for lines in blocks]
    return [each for each in found if each.get("Id")]


def link_at_boot(units: pathlib.Path, unit: str, target: str = "multi-user.target") -> bool:
    """Have a unit started when the host boots; whether that is new."""
    link = units / f"{target}.wants" / unit
    # The file of an instance is that of its template.
    name, at, _ = unit.partition("@")
    place = pathlib.Path("..", f"{name}@.service" if at else unit)
    if link.is_symlink() and os.readlink(link) == str(place):  # noqa: PTH115  compared as written
        return False
    link.parent.mkdir(mode=0o755, exist_ok=True)
    remove(link)
    link.symlink_to(place)
    sync_directory(link.parent)
    return True


def unlink_at_boot(units: pathlib.Path, unit: str, target: str = "multi-user.target") -> None:
    """Do not start a unit when the host boots."""
    link = units / f"{target}.wants" / unit
    if link.is_symlink():
        link.unlink()
        sync_directory(link.parent)
