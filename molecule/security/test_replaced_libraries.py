"""A fixed library comes into use by itself: services that run with the old one are restarted, and no client notices."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

from attack import as_root
from client import Site

Row = Callable[[str, str, str], None]
# An upgrade as dpkg does it: a new file under the old name. The same content, so nothing else changes.
REPLACE = """
import json, os, shutil, subprocess
for name in ("libssl.so.3", "libcrypto.so.3"):
    library = os.path.realpath(f"/usr/lib/x86_64-linux-gnu/{name}")
    shutil.copy2(library, f"{library}.new")
    os.rename(f"{library}.new", library)
stale = "/usr/local/libexec/praetor/restart-stale"
pid = lambda: subprocess.check_output(["systemctl", "show", "--property=MainPID", "--value", "nginx"], text=True)
seen = [subprocess.run([stale, "--list"], capture_output=True, text=True).stdout]
old = pid()
done = subprocess.run([stale, "uwsgi-emperor", "dbus", "systemd-logind", "getty", "user@"], capture_output=True, text=True)
subprocess.run(["sleep", "4"])
seen.append(subprocess.run([stale, "--list"], capture_output=True, text=True).stdout)
print(json.dumps({"before": seen[0], "after": seen[1], "said": done.stdout + done.stderr, "status": done.returncode, "other": pid() != old}))
"""


def test_a_replaced_library_comes_into_use_and_no_request_is_lost(
    settings: dict[str, Any], site: Site, row: Row
) -> None:
    statuses: list[int | str] = []
    end = threading.Event()

    def ask() -> None:
        while not end.wait(0.05):
            try:
                statuses.append(site.ask("echo.lab.example", "/ready").status)
            except OSError as error:
                statuses.append(repr(error))

    client = threading.Thread(target=ask)
    client.start()
    try:
        found = json.loads(as_root(settings, REPLACE))
    finally:
        end.set()
        client.join()
    assert "nginx.service" in found["before"]
    assert "ssh.service" in found["before"]
    assert found["status"] == 0, found["said"]
    left = {line.split()[0] for line in found["after"].splitlines()}
    strange = sorted(
        unit for unit in left if not unit.startswith(("uwsgi-emperor", "dbus", "systemd-logind", "getty", "user@"))
    )
    row("services with a replaced library", "restarted", ", ".join(strange) or "restarted")
    row("NGINX with a replaced library", "another process", "another process" if found["other"] else "the same")
    assert len(statuses) > 20
    lost = [status for status in statuses if status != 200]
    row("requests lost meanwhile", "none", f"{len(lost)} of {len(statuses)}: {lost[0]}" if lost else "none")
