"""An app's own log lines: those of its user in the host's journal."""

from __future__ import annotations

import re
import subprocess

from .layout import AppHost, user_of


def last_lines(host: AppHost, since: float, count: int = 40) -> str:
    """The last lines that the app's user wrote to the journal since a time; uWSGI's own chatter at start is left out."""
    uid = user_of(host.app).pw_uid
    command = [
        "journalctl",
        "--quiet",
        "--no-pager",
        "--output=cat",
        f"_UID={uid}",
        f"--since=@{since:.3f}",
        "--lines=400",
    ]
    subprocess.run(["journalctl", "--sync"], capture_output=True, check=False)
    printed = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False).stdout.splitlines()
    kept = [line for line in printed if not _CHATTER.match(line)]
    # The Emperor starts a broken slot again and again: the lines of the first start are enough.
    ends = [number for number, line in enumerate(kept) if "GAME OVER" in line]
    kept = kept[: ends[0]] if ends else kept
    return "\n".join(kept[-count:]) or f"(nothing; look with: journalctl _UID={uid} --since=@{since:.0f})"


_CHATTER = re.compile(
    r"^(\[emperor|\*\*\* (?!no app|WARNING: the app)|\[uWSGI\] getting|compiled with|os: |nodename|machine: |clock source|pcre jit|detected |current working|chdir\(\) to"
    r"|your (processes|memory|server|mercy|request)|lock engine|thunder lock|uwsgi socket|Python (version|main)|--- Python|python threads|mapped |spawned uWSGI"
    r"|announcing my loyalty|VACUUM: |unlink\(\): No such file|added /|set cores|setting |limiting |WSGI app 0 .*ready|- \*\*\*|running |request buffer)"
)
