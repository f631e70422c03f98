"""The sample's commands: `python chores.py check`, `python chores.py migrate`."""

from __future__ import annotations

import sys
import time

from variant import DATA, PACE_S, VERSION, is_broken

chore = sys.argv[1]
time.sleep(PACE_S)
if is_broken(chore):
    sys.exit(f"the sample cannot {chore}, as it was told")
if chore == "migrate":
    # Keeps count, so that it can be seen how often it was run.
    with (DATA / "migrations").open("a", encoding="utf-8") as log:
        log.write(f"{VERSION}\n")
