"""What a change of the code, no change and a rollback cost clients and the controller: this project, and two ways in which teams deploy.

`python bench/changes.py` uses the machines of bench/serving.py. Three copies of the same app are under the same constant load (bench/on_host/load.py)
from before the first run to after the last: this project's; one that a plain playbook deploys (bench/peers/plain.yml); one that lies in directories
with a link to the current one (bench/peers/linked.yml). They change in turns. What a run cost its clients is what they met from its begin until
two seconds after its end.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from serving import ROOT, play, project

NAME = "api.lab.example"
PORTS = {"this project": 443, "plain": 18131, "linked": 18141}
AFTER_S = 2.0
ABOUT = """\
Three copies of the same API on one host, each under the same load from before the first run to after the last: two clients with at most 10 requests/s each, one
over new TLS connections, half of the requests POST. They change in turns: this project, with `bake_s: 0`; *plain*, a playbook as teams write it (copy the code, pip, migrate,
restart gunicorn); *linked*, releases in directories, each with a virtualenv, and a link to the current one with a graceful reload, as deploy roles
do. Seconds and longest answers are medians, lost requests those of all rounds."""


@dataclass(frozen=True)
class Run:
    """One run, by the clock that clients have too."""

    way: str
    what: str
    began: float
    ended: float
    cpu_s: float


@dataclass(frozen=True)
class Met:
    """What clients met of one run."""

    run: Run
    asked: int
    lost: int
    longest_ms: float


def code(place: Path, number: int, directory: Path) -> Path:
    """An archive of the app's code and lock, with the description of the package, which the API asks for its version."""
    described = directory / "api-1.0.0.dist-info"
    described.mkdir(exist_ok=True)
    (described / "METADATA").write_text("Metadata-Version: 2.1\nName: api\nVersion: 1.0.0\n")
    archive = directory / f"code-{number}.tar.gz"
    with tarfile.open(archive, "w:gz") as file:
        file.add(place / "src", "src")
        file.add(described, f"src/{described.name}")
        file.add(place / "requirements.txt", "requirements.txt")
    return archive


def timed(way: str, what: str, playbook: str, *arguments: str) -> Run:
    """Run a playbook."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.time()
    play(playbook, *arguments)
    ended = time.time()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - usage.ru_utime - usage.ru_stime
    time.sleep(AFTER_S + 1)
    return Run(way, what, began, ended, used)


def packed(directory: Path, place: Path) -> Path:
    """An archive of the programs for the host and of all wheels."""
    inside = directory / "measured"
    wheels = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--only-binary=:all:",
        "--python-version=3.13",
        f"--dest={inside}/wheels",
    ]
    wheels += [f"--platform=manylinux_2_{minor}_x86_64" for minor in (36, 34, 28, 27, 24, 17, 12, 5)]
    for lock in (place / "requirements.txt", ROOT / "bench/peers/requirements.txt"):
        subprocess.run([*wheels, "--require-hashes", "-r", str(lock)], check=True)
    for name in ("stacks.py", "load.py"):
        shutil.copy2(ROOT / "bench/on_host" / name, inside / name)
    archive = directory / "measured.tar.gz"
    with tarfile.open(archive, "w:gz") as file:
        file.add(inside, "measured")
    return archive


def measure(rounds: int, directory: Path) -> list[Met]:
    """Deploy in turns under load."""
    place, result = project(directory), directory / "answers.csv"
    changed = place / "src/api/measured.py"
    own = ("-e", f"bench_project={place}")
    given = {"ports": PORTS, "server": NAME, "result": str(result), "packed": str(packed(directory, place))}
    play("playbooks/lab_up.yml")
    play("playbooks/deploy.yml", *own)
    play("bench/changes.yml", "-e", json.dumps(given | {"do": "begin"}))
    kept = code(place, 0, directory)
    play("bench/peers/plain.yml", "-e", f"code={kept}")
    play("bench/peers/linked.yml", "-e", f"code={kept} release=r0")
    play("bench/changes.yml", "-e", json.dumps(given | {"do": "ask"}))
    runs: list[Run] = []
    for number in range(1, rounds + 1):
        with changed.open("a", encoding="utf-8") as file:
            file.write(f"# {number} {time.time()}\n")
        new = code(place, number, directory)
        runs += [
            timed("this project", "changed code", "playbooks/release.yml", *own),
            timed("plain", "changed code", "bench/peers/plain.yml", "-e", f"code={new}"),
            timed("linked", "changed code", "bench/peers/linked.yml", "-e", f"code={new} release=r{number}"),
            timed("this project", "no change", "playbooks/release.yml", *own),
            timed("plain", "no change", "bench/peers/plain.yml", "-e", f"code={new}"),
            timed("linked", "no change", "bench/peers/linked.yml", "-e", f"code={new} release=r{number}"),
            timed("this project", "rollback", "playbooks/rollback.yml", "-e", "app=api"),
            timed("plain", "rollback", "bench/peers/plain.yml", "-e", f"code={kept}"),
            timed("linked", "rollback", "bench/peers/linked.yml", "-e", "back=r0"),
        ]
    play("bench/changes.yml", "-e", json.dumps(given | {"do": "end"}))
    with result.open(encoding="utf-8") as file:
        asked = [
            (int(port), float(began), float(ended), int(status)) for port, began, ended, status in csv.reader(file)
        ]
    return [met(run, asked) for run in runs]


def met(run: Run, asked: list[tuple[int, float, float, int]]) -> Met:
    """What clients met of a run."""
    within = [
        (ended - began, status)
        for port, began, ended, status in asked
        if port == PORTS[run.way] and run.began <= ended and began <= run.ended + AFTER_S
    ]
    return Met(
        run, len(within), sum(status not in {200, 201} for _, status in within), 1000 * max(each for each, _ in within)
    )


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="changes-") as scratch:
        found = measure(asked.rounds, Path(scratch))
    load = os.getloadavg()[0]
    print(f"\n## Changes\n\n{ABOUT}\n\n{asked.rounds} rounds; the machine's load at the end was {load:.0f}.\n")
    print(
        "| | run, s | this project = 1 | controller's processor, s | lost / asked | longest answer, ms: median (worst) |"
    )
    print("|---|---|---|---|---|---|")
    for what in ("changed code", "no change", "rollback"):
        own: list[float] = []
        for way in PORTS:
            same = [each for each in found if (each.run.what, each.run.way) == (what, way)]
            seconds = [each.run.ended - each.run.began for each in same]
            own = own or seconds
            ratio = statistics.median(b / a for a, b in zip(own, seconds, strict=True))
            longest = [each.longest_ms for each in same]
            print(
                f"| {what}: {way} | {statistics.median(seconds):.1f} | {ratio:.1f} | {statistics.median(each.run.cpu_s for each in same):.1f} "
                f"| {sum(each.lost for each in same)} / {sum(each.asked for each in same)} | {statistics.median(longest):.0f} ({max(longest):.0f}) |"
            )


if __name__ == "__main__":
    main()
