"""The facts that the gate, the bake and the drain are built on, asked of uWSGI itself."""

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes import a_run, host_in, put_release, vassal_of

from praetor.host import gate as gates
from praetor.host import uwsgi
from praetor.host.drain import Drain
from praetor.host.gate import gate, remove_slot, wait_until
from praetor.host.journal import phase
from praetor.host.layout import AppHost, Emperor, ReleaseError, Slot

APP = """
import time
def app(environ, start_response):
    if environ["PATH_INFO"] == "/slow":
        time.sleep(0.8)
    if environ["PATH_INFO"] == "/broken":
        raise RuntimeError("not caught")
    start_response("200 OK", [])
    return [environ["PATH_INFO"].encode()]
"""
HANGS = """
import os, pathlib, time
pathlib.Path(__file__).with_name("pid").write_text(str(os.getpid()))
time.sleep(60)
"""
INI = """[uwsgi]
strict = true
master = true
single-interpreter = true
need-app = true
processes = 2
module = {module}
pythonpath = {place}
socket = {run}/%n.sock
chmod-socket = 660
stats = {run}/%n.stats
vacuum = true
die-on-term = true
"""


@pytest.fixture(scope="module")
def real() -> Iterator[AppHost]:
    """Return a host with an Emperor, and releases with an app that runs and with one that does not."""
    with tempfile.TemporaryDirectory(prefix="p") as directory:
        host = host_in(Path(directory))
        (host.layout.apps / "works.py").write_text(APP, encoding="utf-8")
        (host.layout.apps / "hangs.py").write_text(HANGS, encoding="utf-8")
        for release, module in (("1-a", "works:app"), ("2-b", "breaks:app"), ("3-c", "hangs:app")):
            put_release(host, release)
            text = INI.format(module=module, place=host.layout.apps, run=host.run_dir)
            (host.release_dir(release) / "vassal.ini").write_text(text, encoding="utf-8")
        own, program = Emperor("api", 1), str(Path(sys.prefix) / "bin/uwsgi")
        command = [program, "--emperor", str(host.vassals(own)), "--emperor-wrapper", program, "--emperor-freq", "1"]
        command += ["--emperor-stats", str(host.emperor_stats(own)), "--emperor-graceful-shutdown"]
        with (
            (Path(directory) / "log").open("wb") as log,
            subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL) as emperor,
        ):
            assert wait_until(host.emperor_stats(own).exists, 10)
            yield host
            emperor.send_signal(signal.SIGINT)
            try:
                emperor.wait(10)
            finally:
                emperor.kill()


@pytest.fixture(autouse=True)
def no_journal(monkeypatch: pytest.MonkeyPatch) -> None:
    """The host's journal is not asked in tests."""
    monkeypatch.setattr(gates, "last_lines", lambda *_: "")


def through(host: AppHost, release: str) -> Slot:
    """Take a release through the gate."""
    with phase(host, a_run(), "gate", begins=True) as journal:
        manifest = host.manifest(release)
        assert manifest
        return gate(host, manifest, "x", journal, clients=gates._group_name(os.getgid()))


@pytest.fixture(scope="module")
def slot(real: AppHost) -> Slot:
    """Return a slot that passed the gate."""
    return through(real, "1-a")


def test_a_slot_passes_the_gate_and_the_emperor_says_that_it_accepts(real: AppHost, slot: Slot) -> None:
    assert uwsgi.get(real.socket(slot), "/hello?x", "h", 5) == uwsgi.Answer(200, "/hello")
    state = real.emperor_stats(Emperor("api", 1))
    assert wait_until(lambda: uwsgi.vassal_state(state, vassal_of(slot, real).name) == (True, 0), 5)


def test_requests_and_exceptions_are_counted_once(real: AppHost, slot: Slot) -> None:
    before = uwsgi.counters(real.stats(slot))
    assert (before.workers, before.respawns, before.harakiri, before.busy) == (2, 0, 0, 0)
    uwsgi.get(real.socket(slot), "/", "h", 5)
    with pytest.raises(ValueError, match="without an answer"):
        uwsgi.get(real.socket(slot), "/broken", "h", 5)
    after = uwsgi.counters(real.stats(slot))
    assert (after.requests - before.requests, after.exceptions - before.exceptions) == (2, 1)


def test_a_drain_waits_for_a_request_in_flight(real: AppHost, slot: Slot) -> None:
    answers: list[int] = []
    thread = threading.Thread(target=lambda: answers.append(uwsgi.get(real.socket(slot), "/slow", "h", 5).status))
    thread.start()
    assert wait_until(lambda: uwsgi.counters(real.stats(slot)).busy == 1, 5)
    assert Drain(real, slot).wait(10) is True
    assert answers == [200]
    thread.join()


def test_a_worker_that_died_is_counted(real: AppHost, slot: Slot) -> None:
    before = uwsgi.counters(real.stats(slot))
    os.kill(before.pids[0], signal.SIGKILL)
    assert wait_until(lambda: uwsgi.counters(real.stats(slot)).respawns == before.respawns + 1, 5)


@pytest.mark.usefixtures("slot")
def test_a_broken_import_is_seen_at_once_and_leaves_nothing(real: AppHost) -> None:
    with pytest.raises(ReleaseError, match="uWSGI could not start it"):
        through(real, "2-b")
    assert [found.release for found in real.slots()] == ["1-a"]


def test_a_slot_that_is_removed_ends(real: AppHost, slot: Slot) -> None:
    pids = uwsgi.counters(real.stats(slot)).pids
    remove_slot(real, slot)
    assert wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), 5)
    assert [path for path in real.run_dir.iterdir() if path.stem == slot.name] == []


def test_a_slot_that_ends_is_not_loaded_anew(real: AppHost) -> None:
    for _ in range(8):
        slot = through(real, "1-a")
        pids = uwsgi.counters(real.stats(slot)).pids
        remove_slot(real, slot)
        assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    assert "binary reloading" not in (real.layout.run.parent / "log").read_text(encoding="utf-8")


def test_a_slot_that_still_loads_is_ended_at_once(real: AppHost) -> None:
    slot = Slot("api", "3-c", 1)
    vassal_of(slot, real).symlink_to(real.release_dir("3-c") / "vassal.ini")
    gates.rescan(real, Emperor("api", 1))
    written = real.layout.apps / "pid"
    assert wait_until(lambda: written.exists() and written.read_text(encoding="ascii") != "", 20)
    remove_slot(real, slot, timeout_s=20)
    assert not Path(f"/proc/{written.read_text(encoding='ascii')}").exists(), "it would sleep for a minute"


def test_a_temporary_link_is_no_slot_for_the_emperor(real: AppHost) -> None:
    link = real.vassals(Emperor("api", 1)) / ".tmp.api.1-a.99.ini.new"
    link.symlink_to(real.release_dir("1-a") / "vassal.ini")
    gates.rescan(real, Emperor("api", 1))
    time.sleep(1.2)
    found = uwsgi.stats(real.emperor_stats(Emperor("api", 1)))
    link.unlink()
    assert found["vassals"] == []
