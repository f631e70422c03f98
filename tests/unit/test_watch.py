"""The watch of a slot's requests as uWSGI's master meets it; what it ends is tried with a real slot in test_serving.py."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from project import ROOT

# uWSGI's master, where it stops a daemon: it tells it to, sleeps, and only then looks whether it has ended.
MASTER = """
import os, pathlib, signal, subprocess, sys, time

woken = []
signal.signal(signal.SIGHUP, lambda *_: woken.append(os.waitpid(watch.pid, os.WNOHANG)[0] == watch.pid))
signal.signal(signal.SIGALRM, lambda *_: woken.append("by nobody"))
state = sys.argv[2]
watch = subprocess.Popen([sys.executable, "-I", "-S", sys.argv[1], state, "1"])
signal.alarm(60)
while not pathlib.Path(state, "watch.json").exists() and not woken:
    time.sleep(0.01)
if sys.argv[3] == "master":
    os.kill(watch.pid, signal.SIGTERM)
else:
    subprocess.run(["kill", str(watch.pid)], check=True)
    watch.wait()
    signal.alarm(1)
while not woken:
    signal.pause()
print(woken[0])
"""


@pytest.mark.parametrize(("who", "woken"), [("master", "True"), ("somebody else", "by nobody")])
def test_a_master_that_stops_the_watch_is_woken_when_it_has_ended(tmp_path: Path, who: str, woken: str) -> None:
    command = [sys.executable, "-c", MASTER, str(ROOT / "src/praetor_slot/watch.py"), str(tmp_path / "state"), who]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == (woken, ""), "SIGHUP would reload a slot that does not end"
    assert done.returncode != -signal.SIGHUP
