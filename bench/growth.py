"""What a run costs the controller by the number of hosts: processor time of ansible-playbook and all that it starts, with a fitted line.

`python bench/growth.py` simulates hosts that answer at once (bench/connection/at_once.py), so what is left is Ansible and the engine. With
`--inventory INVENTORY --provision` it measures provisioning without a change, on the first hosts of a real inventory. `--against TREE` takes
turns with another checkout of this project, and prints the ratio.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SAMPLE = ROOT / "molecule" / "releases" / "sample"
APPS = """\
apps:
  - name: sample
    source: {{path: {path}}}
    wsgi: sample:app
    server_names: [sample.example.org]
    release: {{bake_s: 0, batches: {batches}}}
"""

ABOUT = """\
Processor seconds of the controller for a run over simulated hosts, which answer at once: Ansible and the engine, without ssh. The fitted line says what
a host more costs."""


def cpu_s(tree: Path, arguments: list[str], **environment: str) -> float:
    """Processor seconds, user and system, of one run in a checkout.

    Raises:
        SystemExit: it failed; with what it printed.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    found = {**os.environ, "ANSIBLE_CONFIG": str(tree / "ansible.cfg"), **environment}
    command = [str(Path(sys.executable).with_name("ansible-playbook")), *arguments]
    done = subprocess.run(command, cwd=tree, env=found, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stdout[-4000:] + done.stderr[-4000:])
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def simulated(directory: Path, hosts: int, batches: str) -> Path:
    """An inventory of hosts that answer at once."""
    place = directory / f"{hosts}-{batches.strip('[]').replace(',', '-')}"
    (place / "group_vars/all").mkdir(parents=True, exist_ok=True)
    lines = [f"    s{number:03}: {{ansible_connection: at_once}}" for number in range(1, hosts + 1)]
    (place / "hosts.yml").write_text("\n".join(["app_hosts:", "  hosts:", *lines, ""]), encoding="utf-8")
    (place / "group_vars/all/apps.yml").write_text(APPS.format(path=SAMPLE, batches=batches), encoding="utf-8")
    return place


def on_simulated(directory: Path, playbook: str, batches: str, needed: str, tree: Path, hosts: int) -> float:
    """A run over simulated hosts; `needed` is 1 where a release is still to be brought to all of them, and 0 where all have it."""
    built = ["-e", f"release_cache={directory}/cache-{tree.name}"] if playbook == "release" else []
    return cpu_s(
        tree,
        [f"playbooks/{playbook}.yml", "-i", str(simulated(directory, hosts, batches)), *built],
        ANSIBLE_CONNECTION_PLUGINS=str(ROOT / "bench/connection"),
        AT_ONCE_NEEDED=needed,
    )


def table(title: str, counts: list[int], seconds: dict[str, dict[int, list[float]]]) -> None:
    """Medians by checkout and number of hosts, the fitted line, and the spread of the runs as the machine's noise."""
    print(f"\n{title}: processor seconds of the controller")
    print(f"{'hosts':<14}" + "".join(f"{count:>8}" for count in counts) + "   a host more costs   noise")
    medians = {name: [statistics.median(found[count]) for count in counts] for name, found in seconds.items()}
    for name, values in medians.items():
        slope = statistics.linear_regression(counts, values).slope if len(counts) > 1 else values[0] / counts[0]
        noise = max((max(runs) - min(runs)) / statistics.median(runs) for runs in seconds[name].values())
        print(f"{name:<14}" + "".join(f"{value:>8.2f}" for value in values) + f"   {slope:>12.3f} s   {noise:>7.0%}")
    if len(medians) == 2:
        old, new = medians.values()
        print(f"{'ratio':<14}" + "".join(f"{b / a:>8.2f}" for a, b in zip(old, new, strict=True)))


def main() -> None:
    """Measure in turns, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hosts", type=int, nargs="+", default=[10, 25, 50])
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--against", type=Path, help="another checkout")
    parser.add_argument("--batches", nargs="+", default=['["1", "25%"]', '["100%"]', '["2"]'])
    parser.add_argument("--inventory", help="of real hosts")
    parser.add_argument("--provision", action="store_true", help="measure provisioning of real hosts without a change")
    asked = parser.parse_args()
    trees = {**({asked.against.name: asked.against.resolve()} if asked.against else {}), "this tree": ROOT}
    print(f"## Hosts\n\n{ABOUT}\n\n```", end="")
    with tempfile.TemporaryDirectory() as scratch:
        directory = Path(scratch)
        runs: dict[str, Callable[[Path, int], float]] = {
            f"release, batches {batches}": partial(on_simulated, directory, "release", batches, "1")
            for batches in asked.batches
        }
        runs |= {
            title: partial(on_simulated, directory, playbook, '["100%"]', "0")
            for title, playbook in {"no change": "release", "rollback": "rollback", "status": "status"}.items()
        }
        if asked.provision:
            every = ["ansible", "app_hosts", "-i", asked.inventory, "--list-hosts"]
            listed = subprocess.run(every, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()[2:]
            runs = {
                "provision without a change": lambda tree, count: cpu_s(
                    tree, ["playbooks/provision.yml", "-i", asked.inventory, "--limit", ",".join(listed[:count])]
                )
            }
        for title, run in runs.items():
            found: dict[str, dict[int, list[float]]] = {name: {count: [] for count in asked.hosts} for name in trees}
            for number in range(asked.rounds + 1):
                for count in asked.hosts:
                    for name, tree in trees.items():
                        seconds = run(tree, count)
                        if number:  # the first asks new hosts, and builds
                            found[name][count].append(seconds)
            table(title, asked.hosts, found)
    print("```")


if __name__ == "__main__":
    main()
