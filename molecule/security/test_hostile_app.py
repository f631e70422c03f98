"""An app that attacks its neighbour from inside gets nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

from attack import as_root
from client import Site
from testinfra.host import Host

Row = Callable[[str, str, str], None]

# Works for the victim itself, so that "refused" means refused and not "not there".
IS_THERE = """
import json, os, pathlib, pwd
live = pathlib.Path("/srv/apps/victim/live.sock").readlink().name.removesuffix(".sock")
release = live.removeprefix("victim.").rpartition(".")[0]
place = pathlib.Path("/srv/apps/victim/releases", release)
uid = pwd.getpwnam("victim").pw_uid
pids = [p.name for p in pathlib.Path("/proc").glob("[0-9]*") if p.exists() and p.stat().st_uid == uid]
there = ["src/hostile.py", "config.yml", "release.json", "secrets/CANARY"]
print(json.dumps({"slot": live, "release": release, "pids": pids, "missing": [n for n in there if not (place / n).exists()]}))
"""


def test_a_hostile_app_reads_nothing_of_its_neighbour(settings: dict[str, Any], site: Site, row: Row) -> None:
    found = json.loads(as_root(settings, IS_THERE))
    assert found["missing"] == []
    query = urlencode({"release": found["release"], "slot": found["slot"]})
    answer = site.ask("hostile.lab.example", f"/attack?{query}")
    assert answer.status == 200, answer.body
    attempts: dict[str, dict[str, str]] = json.loads(answer.body)
    assert len(attempts) >= 24
    wrong = []
    for name, came in attempts.items():
        # What is not there proves nothing when it cannot be read.
        refused = "refused" in came and "FileNotFound" not in came["refused"]
        try:
            row(f"app: {name}", "refused", "refused" if refused else str(came))
        except AssertionError:
            wrong.append(f"{name}: {came}")
    assert not wrong, "\n".join(wrong)


def test_a_hostile_app_sees_no_process_of_its_neighbour(settings: dict[str, Any], site: Site, row: Row) -> None:
    pids = json.loads(as_root(settings, IS_THERE))["pids"]
    assert len(pids) >= 2
    answer = site.ask("hostile.lab.example", f"/attack/processes?pids={','.join(pids)}")
    assert answer.status == 200, answer.body
    came = json.loads(answer.body)
    assert len(came) == 4 * len(pids)
    got = [path for path, outcome in came.items() if "got" in outcome]
    row("app: /proc of another app's processes", "refused", ", ".join(got) or "refused")


def test_the_operator_still_sees_the_metrics(host: Host) -> None:
    fetch = "import urllib.request; print(urllib.request.urlopen('http://127.0.0.1:9117/metrics', timeout=10).status)"
    assert host.check_output("python3 -c %s", fetch) == "200"
    assert host.check_output("setpriv --reuid=www-data --regid=www-data --clear-groups python3 -c %s", fetch) == "200"
