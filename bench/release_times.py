"""How long releases take, bake excluded: nothing to do, changed code, rollback; in turns, with what Ansible takes to do nothing at all.

Run on the controller, when the app is live: `python bench/release_times.py INVENTORY FILE [BAKE_S] [ROUNDS]`. FILE is a Python file of the app;
each release adds a comment to it, and in the end it is as it was. BAKE_S is the bake of all batches together (the lab: two of 1 s). The last
column divides by what `ansible-playbook` takes to start, look at the inventory and end, because machines differ.
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

NOTHING = "- hosts: app_hosts\n  gather_facts: false\n  tasks: []\n"


def seconds(playbook: str, inventory: str) -> float:
    """What one run takes."""
    command = [str(Path(sys.executable).with_name("ansible-playbook")), playbook, "-i", inventory]
    began = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    return time.monotonic() - began


def measure(inventory: str, file: Path, rounds: int) -> dict[str, list[float]]:
    """Seconds of each kind of run, by its name."""
    found: dict[str, list[float]] = {"Ansible alone": [], "no change": [], "changed code": [], "rollback": []}
    with tempfile.NamedTemporaryFile("w", suffix=".yml") as nothing:
        nothing.write(NOTHING)
        nothing.flush()
        for number in range(rounds):
            found["Ansible alone"].append(seconds(nothing.name, inventory))
            with file.open("a", encoding="utf-8") as code:
                code.write(f"# {time.time()} {number}\n")
            found["changed code"].append(seconds("playbooks/release.yml", inventory))
            found["no change"].append(seconds("playbooks/release.yml", inventory))
            found["rollback"].append(seconds("playbooks/rollback.yml", inventory))
            print(f"round {number + 1} of {rounds}", file=sys.stderr)
    return found


def main(inventory: str, file: str, bake_s: str = "2", rounds: str = "5") -> None:
    """Print the table."""
    with tempfile.TemporaryDirectory() as directory:
        kept = Path(directory, "kept")
        shutil.copy2(file, kept)
        try:
            found = measure(inventory, Path(file), int(rounds))
        finally:
            shutil.copy2(kept, file)
    unit = statistics.median(found["Ansible alone"])
    print(f"{'run':<16}{'best s':>8}{'median s':>10}{'without bake s':>15}{'Ansible alone = 1':>19}")
    for name, taken in found.items():
        bake = float(bake_s) if name in {"changed code", "rollback"} else 0.0
        median = statistics.median(taken)
        print(f"{name:<16}{min(taken):>8.1f}{median:>10.1f}{median - bake:>15.1f}{(median - bake) / unit:>19.1f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
