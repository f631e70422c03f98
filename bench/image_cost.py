"""What the image costs next to a host that serves the same release: processor time of a request, and how long a container takes to its first answer.

`sudo env PATH="$PATH" PYTHONPATH=tests/image:tests/support python bench/image_cost.py` starts one machine (bench/image) and deploys the reference API there,
builds the image of the same commit with a docker daemon made for that, and asks both in turns with `wrk`, which must be installed.
The machine stays: `ansible-playbook playbooks/lab_down.yml -i bench/image` takes it away.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import engine
from engine import docker
from serving import ROOT, play

INVENTORY = "bench/image"
NAME, PORT = "measured-image", 18085
CONNECTIONS = 16
TICK_US = 1_000_000 / os.sysconf("SC_CLK_TCK")
PARTS = ("NGINX", "app", "logs", "figures", "engine")
ABOUT = """\
The image next to a host, one Debian 13 machine, which serves the same release: {release}. Both speak HTTP here and write their access log: the host into a
file, the container to its first process (*logs*), and from there through the engine into docker's file. *engine* is dockerd and what it starts for
the container; its proxy is in the third row alone. Processor time of a request in µs, by the processes that had part in it, with 16 kept connections that
ask as fast as they are answered. Ratios are taken by round, and their spread is the machine's noise."""
REQUESTS = {
    "GET /version": "",
    "POST /items": """
local count, first = 0, os.time() .. "-" .. math.random(1000000000) .. "-"
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
request = function()
  count = count + 1
  return wrk.format(nil, nil, nil, '{"name": "item-' .. first .. count .. '", "kind": "part"}')
end
""",
}
Turn = dict[str, float]


@dataclass(frozen=True)
class Way:
    """A way to the app, and the processes that work for it, by the part that they are."""

    where: str
    processes: Callable[[], dict[str, list[int]]]


def read(path: str) -> str:
    """A file of /proc; empty when its process has ended."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def processes() -> Iterator[int]:
    """All that run on this machine, in its containers and in its lab."""
    return (int(place.name) for place in Path("/proc").iterdir() if place.name.isdecimal())


def used_us(pid: int) -> float:
    """Processor time of a process and of its children that have ended."""
    fields = read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) * TICK_US if fields else 0


def of_host() -> dict[str, list[int]]:
    """Processes of the lab's machine, by their units."""
    units = {"nginx.service": "NGINX", "uwsgi-emperor@api-": "app", "systemd-journald": "logs", "exporter": "figures"}
    found: dict[str, list[int]] = {}
    for pid in processes():
        group = read(f"/proc/{pid}/cgroup").rpartition("\n0::")[2]
        if f"/{engine.LAB}-app1/" not in group:
            continue
        for unit, part in units.items():
            if unit in group:
                found.setdefault(part, []).append(pid)
                break
    return found


def of_container(*, proxy: bool) -> dict[str, list[int]]:
    """Processes of the container by what they are, and the engine's."""
    programs = {
        "/usr/sbin/nginx": "NGINX",
        "nginx:": "NGINX",
        "uwsgi": "app",
        "app_exporter": "figures",
        "praetor-container": "logs",
    }
    inside = docker("top", NAME, "-o", "pid,args").stdout.splitlines()[1:]
    found: dict[str, list[int]] = {}
    for line in inside:
        number, command = line.split(None, 1)
        part = next(part for word, part in programs.items() if word in command)
        found.setdefault(part, []).append(int(number))
    for pid in processes():
        command = read(f"/proc/{pid}/cmdline")
        if str(engine.STATE) in command or (proxy and "docker-proxy" in command and str(PORT) in command):
            found.setdefault("engine", []).append(pid)
    return found


def ask(way: Way, what: str, seconds: int, scratch: Path) -> Turn:
    """One turn: microseconds of a request by part, and requests per second."""
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "-H", "Host: localhost"]
    if REQUESTS[what]:
        (scratch / "post.lua").write_text(REQUESTS[what])
        command += ["-s", str(scratch / "post.lua")]
    working = way.processes()
    before = {part: sum(map(used_us, pids)) for part, pids in working.items()}
    said = subprocess.run(
        [*command, f"http://{way.where}{what.split()[1]}"], capture_output=True, text=True, check=True
    ).stdout
    time.sleep(1.2)  # logs are written a moment later
    if "Non-2xx" in said or "Socket errors" in said:
        sys.exit(f"{way.where}: {said}")
    count = int(re.search(r"(\d+) requests in", said)[1])  # type: ignore[index]
    turn = {part: (sum(map(used_us, pids)) - before[part]) / count for part, pids in working.items()}
    return {**turn, "all": sum(turn.values()), "requests/s": count / seconds}


def get(where: str, path: str) -> tuple[int, bytes]:
    """Status and body of an answer; 0 where there is none."""
    connection = http.client.HTTPConnection(where, timeout=5)
    try:
        connection.request("GET", path, headers={"Host": "localhost"})
        answer = connection.getresponse()
        return answer.status, answer.read()
    except (OSError, http.client.HTTPException):
        return 0, b""
    finally:
        connection.close()


def address() -> str:
    """Where the container is on its bridge."""
    return docker("inspect", "--format", "{{.NetworkSettings.IPAddress}}", NAME).stdout.strip()


@contextlib.contextmanager
def container(*options: str) -> Iterator[None]:
    """A container that is removed at the end of the block."""
    docker("run", "--detach", "--no-healthcheck", "--name", NAME, *options, "flaskapp")
    try:
        yield
    finally:
        docker("rm", "--force", "--volumes", NAME)


def wait(where: str, path: str) -> float:
    """Wait for a 200, and return when it came."""
    deadline = time.time() + 120
    while get(where, path)[0] != 200:
        if time.time() > deadline:
            sys.exit(f"http://{where}{path} does not answer")
        time.sleep(0.01)
    return time.time()


def table(what: str, found: dict[str, list[Turn]]) -> None:
    """Medians by way, and the ratios to the host, round by round."""
    print(f"\n| {what} | " + " | ".join(PARTS) + " | all, µs | host = 1 | spread | requests/s |")
    print("|---|" + "---|" * (len(PARTS) + 4))
    host = next(iter(found.values()))
    for way, turns in found.items():
        parts = [f"{statistics.median(turn[part] for turn in turns):.0f}" if part in turns[0] else "" for part in PARTS]
        ratios = sorted(turn["all"] / own["all"] for own, turn in zip(host, turns, strict=True))
        every, per_s = (statistics.median(turn[key] for turn in turns) for key in ("all", "requests/s"))
        print(
            f"| {way} | {' | '.join(parts)} | {every:.0f} | **{statistics.median(ratios):.2f}** | "
            f"{ratios[0]:.2f}-{ratios[-1]:.2f} | {per_s:.0f} |"
        )


def requests(host: str, rounds: int, seconds: int, scratch: Path) -> None:
    """Ask the host and the container in turns, and print what it cost."""
    with container("--publish", f"127.0.0.1:{PORT}:80"):
        ways = {
            "host": Way(host, of_host),
            "container": Way(address(), lambda: of_container(proxy=False)),
            "container, published port": Way(f"127.0.0.1:{PORT}", lambda: of_container(proxy=True)),
        }
        for way in ways.values():
            wait(way.where, "/health/ready")
        for what in REQUESTS:
            found: dict[str, list[Turn]] = {name: [] for name in ways}
            for turn in range(rounds + 1):
                for name in list(ways) if turn % 2 else reversed(list(ways)):
                    one = ask(ways[name], what, seconds, scratch)
                    if turn:  # the first round warms up
                        found[name].append(one)
            table(what, found)


def moments() -> dict[str, float]:
    """When the container's programs said what they do, by the clock."""
    lines = [json.loads(line) for line in docker("logs", NAME).stderr.splitlines()]
    stamps = [
        (datetime.fromisoformat(line["ts"]).timestamp(), line.get("message", "")) for line in lines if "ts" in line
    ]
    uwsgi = next(at for at, message in stamps if "Starting uWSGI" in message)
    return {"uwsgi": uwsgi, "serving": next(at for at, message in stamps if message == "serving")}


def starts(rounds: int) -> None:
    """Start containers one after the other, and print where the time goes."""
    found: dict[str, list[float]] = {}
    for _ in range(rounds):
        for migrate in ("yes", "no"):
            began = time.time()
            with container("--env", f"MIGRATE={migrate}"):
                created = docker("inspect", "--format", "{{.State.StartedAt}}", NAME).stdout.strip()
                started = datetime.fromisoformat(f"{created[:26]}+00:00").timestamp()
                path = "/health/ready" if migrate == "yes" else "/version"
                first, said = wait(address(), path), moments()
            steps = {
                "engine: `docker run` until the first process": started - began,
                "check and migrate" if migrate == "yes" else "check": said["uwsgi"] - started,
                "uWSGI loads the app and answers": said["serving"] - said["uwsgi"],
                "NGINX, until a client's first 200": first - said["serving"],
                "all": first - began,
            }
            for step, seconds in steps.items():
                found.setdefault(f"{step}|{migrate}", []).append(seconds)
    print(f"\nFrom `docker run` to the first 200, medians of {rounds} starts, with and without the migrations:\n")
    print("| | s | share | least to most |\n|---|---|---|---|")
    for step, times in found.items():
        name, _, migrate = step.partition("|")
        share = statistics.median(each / all_of for each, all_of in zip(times, found[f"all|{migrate}"], strict=True))
        print(
            f"| {name}{'' if migrate == 'yes' else ', MIGRATE=no'} | {statistics.median(times):.2f} | {share:.0%} | {min(times):.2f}-{max(times):.2f} |"
        )


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3, help="of each turn")
    asked = parser.parse_args()
    play("playbooks/lab_up.yml", inventory=INVENTORY)
    play("playbooks/deploy.yml", inventory=INVENTORY)
    host = f"198.18.{engine.NUMBER}.11"
    with engine.running(), tempfile.TemporaryDirectory(prefix="image-cost-") as scratch:
        engine.base("trixie")
        git = ["git", "-c", "safe.directory=*", "log", "-1", "--format=%H", "--", "app"]
        commit = subprocess.run(git, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
        given = ("--build-arg", f"COMMIT={commit}", "--build-arg", "PYTHONS=3.13")
        docker("build", "--network", "host", "--tag", "flaskapp", *given, ".", timeout_s=900)
        facts = json.loads(docker("run", "--rm", "--entrypoint", "cat", "flaskapp", "/etc/praetor-image.json").stdout)
        served = json.loads(get(host, "/version")[1])["release"]
        if served != facts["release"]:
            sys.exit(f"the host serves {served}, the image has {facts['release']}")
        print(ABOUT.format(release=facts["release"]))
        print(
            f"\nMedians of {asked.rounds} turns of {asked.seconds} s; the machine's load was {os.getloadavg()[0]:.0f}."
        )
        requests(host, asked.rounds, asked.seconds, Path(scratch))
        starts(2 * asked.rounds)


if __name__ == "__main__":
    main()
