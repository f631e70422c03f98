"""What an Emperor for each app costs next to one that all apps share: memory of all processes, and seconds until every app answers.

`python bench/emperors.py` starts both in turns on this machine, with uWSGI's own Emperor, as many apps each time, and two workers per app.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

UWSGI = str(Path(sys.executable).with_name("uwsgi"))
APP = "def application(environ, start_response):\n    start_response('200 OK', [])\n    return [b'here']\n"
VASSAL = """\
[uwsgi]
strict = true
master = true
lazy-apps = true
die-on-term = true
single-interpreter = true
enable-threads = true
wsgi-file = {place}/app.py
processes = 2
threads = 2
http-socket = {place}/{name}.sock
disable-logging = true
"""
PATIENCE_S = 60


def emperors(place: Path, apps: int, *, shared: bool) -> list[Path]:
    """Lay out the vassals; return the directory of each Emperor."""
    (place / "app.py").write_text(APP, encoding="utf-8")
    found = []
    for number in range(apps):
        directory = place / ("all" if shared else f"of-{number}")
        directory.mkdir(exist_ok=True)
        (directory / f"app{number}.ini").write_text(VASSAL.format(place=place, name=f"app{number}"), encoding="utf-8")
        found.append(directory)
    return list(dict.fromkeys(found))


@contextlib.contextmanager
def running(directories: Sequence[Path]) -> Iterator[list[int]]:
    """The process ids of an Emperor for each directory."""
    # In a wheel the running program is Python, so an Emperor has to be told what starts a vassal.
    command = [
        UWSGI,
        "--strict",
        "--emperor-wrapper",
        UWSGI,
        "--emperor-freq",
        "1",
        "--emperor-graceful-shutdown",
        "--emperor",
    ]
    started = []
    try:
        for directory in directories:
            with (directory.parent / f"{directory.name}.log").open("wb") as log:
                started.append(subprocess.Popen([*command, str(directory)], stdout=log, stderr=log))
        yield [each.pid for each in started]
    finally:
        for each in started:
            each.send_signal(signal.SIGQUIT)
        for each in started:
            each.wait(PATIENCE_S)


def answers(path: Path) -> bool:
    """Whether an app answers on its socket."""
    with socket.socket(socket.AF_UNIX) as asked, contextlib.suppress(OSError):
        asked.settimeout(5)
        asked.connect(str(path))
        asked.sendall(b"GET / HTTP/1.0\r\n\r\n")
        return b" 200 " in asked.recv(64)
    return False


def memory_mb(first: Sequence[int]) -> tuple[float, float]:
    """What these processes hold, and what they and all that they have started hold: pages that are shared count by share (PSS)."""
    everything, alone = 0, 0
    waiting = list(first)
    while waiting:
        pid = waiting.pop()
        text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8")
        [kilobytes] = map(int, re.findall(r"(?m)^Pss: +(\d+)", text))
        everything += kilobytes
        alone += kilobytes if pid in first else 0
        waiting += map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="utf-8").split())
    return alone / 1024, everything / 1024


def measured(apps: int, *, shared: bool) -> tuple[float, float, float]:
    """Memory of the Emperors and of all, in MB, and the seconds until every app answered."""
    with tempfile.TemporaryDirectory(prefix="emp-") as directory:
        place = Path(directory)
        laid_out = emperors(place, apps, shared=shared)
        began = time.monotonic()
        with running(laid_out) as pids:
            waiting = [place / f"app{number}.sock" for number in range(apps)]
            while waiting := [path for path in waiting if not answers(path)]:
                if time.monotonic() - began > PATIENCE_S:
                    raise SystemExit(f"{waiting[0].name} did not answer within {PATIENCE_S} s")
                time.sleep(0.02)
            took = time.monotonic() - began
            return *memory_mb(pids), took


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--apps", nargs="+", type=int, default=[1, 4, 8])
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    print(
        "| apps | Emperors' MB, shared | one each | all MB, shared | one each | ratio | s until all answer, shared | one each | ratio (spread) |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for apps in asked.apps:
        rounds = [(measured(apps, shared=True), measured(apps, shared=False)) for _ in range(asked.rounds)]
        one, each = (
            [statistics.median(values) for values in zip(*side, strict=True)] for side in zip(*rounds, strict=True)
        )
        ratios = sorted(after[2] / before[2] for before, after in rounds)
        spread = f"{statistics.median(ratios):.2f} ({ratios[0]:.2f}-{ratios[-1]:.2f})"
        print(
            f"| {apps} | {one[0]:.1f} | {each[0]:.1f} | {one[1]:.0f} | {each[1]:.0f} | {each[1] / one[1]:.2f} "
            f"| {one[2]:.2f} | {each[2]:.2f} | {spread} |"
        )


if __name__ == "__main__":
    main()
