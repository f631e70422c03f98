"""A known secret is deployed and rotated with everything printed; afterwards it is in its own file and nowhere else."""

from __future__ import annotations

import json
import os
import re
import secrets
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from attack import as_root, play
from project import ROOT

Row = Callable[[str, str, str], None]

LAB = Path("/var/lib/praetor-lab", f"{os.environ.get('PRAETOR_LAB', 'praetor')}-t")
CANARY = LAB / "canary"
# On a host, as root. The secret comes as hex: grep's own command line must not be a find. Processes of the victim may have it.
SEARCH = """
import json, os, pathlib, pwd, subprocess, sys, urllib.request
needle, uid, found = bytes.fromhex(sys.argv[1]), pwd.getpwnam("victim").pw_uid, []
for top, directories, files in os.walk("/"):
    directories[:] = [d for d in directories if os.path.join(top, d) not in ("/proc", "/sys", "/dev")]
    for name in files:
        path = os.path.join(top, name)
        try:
            if os.path.isfile(path) and not os.path.islink(path) and needle in pathlib.Path(path).read_bytes():
                found.append(path)
        except OSError:
            pass
if needle in subprocess.run(["journalctl", "--no-pager", "-o", "json", "--all"], capture_output=True).stdout:
    found.append("journal")
for process in pathlib.Path("/proc").glob("[0-9]*"):
    for name in ("cmdline", "environ"):
        try:
            mine = name == "environ" and process.stat().st_uid == uid
            if not mine and needle in (process / name).read_bytes():
                found.append(str(process / name))
        except OSError:
            pass
for port in (9117, 9100, 9113):
    if needle in urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10).read():
        found.append(f"metrics on {port}")
print(json.dumps(sorted(found)))
"""


SECRET = re.compile(r"/srv/apps/victim/releases/[^/]+/secrets/CANARY")


class Watch(threading.Thread):
    """Looks at every command line of the controller, again and again."""

    def __init__(self, needle: bytes) -> None:
        """Look for a secret."""
        super().__init__(daemon=True)
        self.needle, self.found, self.looks, self.end = needle, set[str](), 0, threading.Event()

    def run(self) -> None:
        """Look until the end."""
        while not self.end.wait(0.05):
            self.looks += 1
            for process in Path("/proc").glob("[0-9]*"):
                try:
                    line = (process / "cmdline").read_bytes()
                except OSError:
                    continue
                if self.needle in line:
                    self.found.add(line.replace(b"\\0", b" ").decode(errors="replace")[:200])


def on_controller(needle: bytes, since: float) -> list[str]:
    """Return the files that were written since then and have the secret in them: cache, temporary files, checkout, Ansible's own."""
    places = [Path.home() / ".cache/praetor", Path.home() / ".ansible", Path("/tmp"), ROOT]  # noqa: S108
    found = []
    for place in places:
        for top, directories, files in os.walk(place):
            directories[:] = [name for name in directories if name not in {".venv", ".git"}]
            for name in files:
                path = Path(top, name)
                try:
                    status = path.lstat()
                    if (
                        path.is_file()
                        and not path.is_symlink()
                        and status.st_mtime >= since
                        and needle in path.read_bytes()
                    ):
                        found.append(str(path))
                except OSError:
                    continue
    return found


def test_a_secret_is_in_its_file_and_nowhere_else(fleet: dict[str, dict[str, Any]], row: Row) -> None:
    old, since = CANARY.read_text(encoding="utf-8"), time.time()
    new = f"canary-{secrets.token_hex(16)}"
    CANARY.write_text(new, encoding="utf-8")
    watch = Watch(new.encode())
    watch.start()
    # A release that fails must not tell it either: its check command has it in its environment and ends with an error.
    failed = play("release", "-vvv", "--diff", "-e", "victim_check=fail")
    rotated = play("release", "-vvv", "--diff")
    watch.end.set()
    watch.join()
    assert failed.returncode != 0
    assert "as it was told" in failed.stdout
    assert rotated.returncode == 0, rotated.stdout[-3000:]
    assert watch.looks > 20
    row("canary: command lines here", "none", ", ".join(sorted(watch.found)) or "none")
    for name, value in (("old", old), ("new", new)):
        needle = value.encode()
        for what, output in (("failed", failed), ("rotated", rotated)):
            told = (output.stdout + output.stderr).count(value)
            row(f"canary, {name}: output, {what}, -vvv", "none", f"{told} times" if told else "none")
        row(f"canary, {name}: files here", "none", ", ".join(on_controller(needle, since)) or "none")
        for host_name, settings in fleet.items():
            found = json.loads(as_root(settings, SEARCH, needle.hex()))
            strange = [path for path in found if not SECRET.fullmatch(path)]
            row(
                f"canary, {name}: all of {host_name}",
                "its file",
                ", ".join(strange or ["its file"] if found else ["lost"]),
            )
