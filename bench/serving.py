"""What a request costs in this stack, and in others that serve the same app: processor time and the 99th percentile, by kind of request.

`python bench/serving.py` starts two machines (bench/inventory: an app host with everything on, and the monitoring host that gathers its logs and
figures), deploys the reference API there with some routes to measure (bench/api/measured.py), and asks all stacks of bench/on_host/stacks.py in turns.
The machines stay: `ansible-playbook playbooks/lab_down.yml -i bench/inventory` takes them away.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
INVENTORY = "bench/inventory"
PARTS = ("NGINX", "app", "logs", "figures")
ABOUT = """\
Processor time of a request in µs, by the cgroups of the services that worked on it, and the 99th percentile with 16 kept connections that ask as fast as
they are answered. All stacks serve the same API with two workers of two threads on one Debian 13 host. *This stack* has TLS, limits, sandboxes, metrics and
access logs in a file, from which they are sent to a monitoring host: *logs* is that and the journal, *figures* are the exporters. The next two leave
one thing out; where logs are not sent, requests are not counted either. The raw callable is WSGI without a framework behind the same NGINX, the limit of
what an app can gain. NGINX before gunicorn (gthread) or granian is what a team writes: TLS and one access log in a file; it has neither limits nor JSON logs
nor sandboxes, and ships no logs. `uwsgi --http` is one process with one thread without NGINX and TLS, as in the README of `app/`; it keeps no connections.
Ratios are taken by round, and their spread is the machine's noise."""
Turns = list[dict[str, float]]


def play(playbook: str, *arguments: str, inventory: str = INVENTORY) -> None:
    """Run a playbook; what it says goes to stderr.

    Raises:
        SystemExit: it failed.
    """
    command = [str(Path(sys.executable).with_name("ansible-playbook")), playbook, "-i", inventory, *arguments]
    environment = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")}
    if code := subprocess.run(command, cwd=ROOT, env=environment, stdout=sys.stderr, check=False).returncode:
        raise SystemExit(code)


def project(directory: Path) -> Path:
    """The reference API with the routes that are measured: a copy of its files, in a repository."""
    place = directory / "project"
    listed = subprocess.run(["git", "ls-files", "app"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in listed.splitlines():
        target = place / Path(name).relative_to("app")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, target)
    shutil.copy2(ROOT / "bench/api/measured.py", place / "src/api/measured.py")
    return place


def packed(directory: Path, python: str) -> Path:
    """An archive of the program for the host and of the other app servers, installed for its Python."""
    place = directory / "measured"
    command = [
        str(Path(sys.executable).with_name("uv")),
        "pip",
        "install",
        "--quiet",
        "--require-hashes",
        "--only-binary=:all:",
    ]
    command += [f"--python-version={python}", "--python-platform=x86_64-manylinux_2_36", f"--target={place}/peers"]
    subprocess.run([*command, "-r", str(ROOT / "bench/peers/requirements.txt")], check=True)
    shutil.copy2(ROOT / "bench/on_host/stacks.py", place / "stacks.py")
    archive = directory / "measured.tar.gz"
    with tarfile.open(archive, "w:gz") as file:
        file.add(place, "measured")
    return archive


def table(what: str, found: dict[str, Turns]) -> None:
    """Medians by stack, and the median of the ratios to this stack, round by round."""
    print(f"\n| {what} | " + " | ".join(PARTS) + " | all, µs | this stack = 1 | spread | requests/s | p99 ms |")
    print("|---|" + "---|" * (len(PARTS) + 5))
    ours = next(iter(found.values()))
    for name, turns in found.items():
        parts = [f"{statistics.median(turn[part] for turn in turns):.0f}" if part in turns[0] else "" for part in PARTS]
        ratios = sorted(turn["all"] / own["all"] for own, turn in zip(ours, turns, strict=True))
        all_us, per_s, p99 = (statistics.median(turn[key] for turn in turns) for key in ("all", "requests/s", "p99 ms"))
        print(
            f"| {name} | {' | '.join(parts)} | {all_us:.0f} | **{statistics.median(ratios):.2f}** | "
            f"{ratios[0]:.2f}-{ratios[-1]:.2f} | {per_s:.0f} | {p99:.1f} |"
        )


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=2, help="of each turn")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="serving-") as scratch:
        directory, result = Path(scratch), Path(scratch, "result.json")
        play("playbooks/lab_up.yml")
        play("playbooks/deploy.yml", "-e", f"bench_project={project(directory)}")
        more = {"rounds": asked.rounds, "seconds": asked.seconds, "result": str(result)}
        play("bench/serving.yml", "-e", json.dumps(more | {"packed": str(packed(directory, "3.13"))}))
        measured = json.loads(result.read_text())
    print(
        f"## Requests\n\n{ABOUT}\n\nMedians of {asked.rounds} turns of {asked.seconds} s; the machine's load was {measured['load']:.0f}."
    )
    for what, found in measured["found"].items():
        table(what, found)


if __name__ == "__main__":
    main()
