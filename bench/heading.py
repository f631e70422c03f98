"""The beginning of docs/performance.md: what made it, when, and on which machine."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

TEXT = """# What requests, releases and hosts cost

Made by `make bench` on {date}, commit {commit}, {cores} processors, load {load:.1f} at the beginning. Seconds and microseconds are this machine's, and
a busy one's are larger: compare ratios, which were taken in turns within one run, and look at their spread first. What grows with hosts, and what
limits it: [scale.md](scale.md).
"""


def main() -> None:
    """Print it."""
    root = Path(__file__).resolve().parents[1]
    commit = subprocess.run(["git", "log", "-1", "--format=%h"], cwd=root, capture_output=True, text=True, check=True)
    load = os.getloadavg()[0]
    print(TEXT.format(date=time.strftime("%Y-%m-%d"), commit=commit.stdout.strip(), cores=os.cpu_count(), load=load))


if __name__ == "__main__":
    main()
