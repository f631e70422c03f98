"""The facts that the gate, the bake and the drain are built on, asked of uWSGI itself."""

import itertools
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from fakes import a_run, host_in, manifest_of, put_release, vassal_of
from project import app_entry

from praetor.build.parts import slot as slot_files
from praetor.build.parts import vassal
from praetor.documents import Entry
from praetor.host import drain as drains
from praetor.host import gate as gates
from praetor.host import uwsgi
from praetor.host.drain import Drain
from praetor.host.gate import gate, remove_slot, wait_until
from praetor.host.journal import phase
from praetor.host.layout import AppHost, Emperor, ReleaseError, Slot

APP = """
import pathlib, time
def app(environ, start_response):
    if environ["PATH_INFO"] == "/slow":
        while not pathlib.Path(__file__).with_name("on").exists():
            time.sleep(0.05)
    if environ["PATH_INFO"] == "/broken":
        raise RuntimeError("not caught")
    start_response("200 OK", [])
    return [environ["PATH_INFO"].encode()]
def made(kind, *more, debug=True):
    def app(environ, start_response):
        start_response("200 OK", [])
        return [repr((kind, more, debug)).encode()]
    return app
"""
HANGS = """
import os, pathlib, time
pathlib.Path(__file__).with_name("pid").write_text(str(os.getpid()))
time.sleep(300)
"""
# The first worker can load it, the other waits for a file.
HALF = """
import pathlib, time
here = pathlib.Path(__file__).parent
while (here / "half").exists() and not (here / "go").exists():
    time.sleep(0.05)
(here / "half").touch()
from works import app
"""
# Makes its tables while it is loaded, as if nobody else did; and then waits until another worker loads it too.
TABLES = """
import os, pathlib, time
here = pathlib.Path(__file__).parent
if not (here / "tables").exists():
    if (here / "dies").exists():
        (here / "dies").unlink()
        os.kill(os.getpid(), 9)
    time.sleep(0.5)
    (here / "tables").mkdir()
else:
    here.joinpath(f"loads {os.getpid()}").touch()
    while len(list(here.glob("loads *"))) < 2:
        time.sleep(0.05)
from works import app
"""
# Needs something that can be away.
NEEDS = """
import pathlib
if pathlib.Path(__file__).with_name("away").exists():
    raise RuntimeError("the database is away")
from works import app
"""
WRAPPER = """#!/bin/sh
exec {program} --set-placeholder "release=$(dirname "$(readlink -f "$2")")" "$@"
"""
ENTRY = app_entry(workers=2, threads=1, http={"stream_s": 60}, limits={"request_s": 20})
RELEASES = {
    "1-a": ("works:app", False),
    "2-b": ("breaks:app", False),
    "3-c": ("hangs:app", False),
    "4-d": ("works:app", True),
    "5-e": ("breaks:app", True),
    "6-f": ("half:app", False),
    "7-g": ("needs:app", False),
    "8-h": ("hangs:app", True),
    "9-i": ("asgi:app", False),
    "10-j": ("works:app", False),
    "11-k": ("tables:app", False),
    "12-l": ("works:made('prod-1/a: b', -3, None, debug=False)", False),
}
# A worker that was forked and has not come to the app's loading yet: it still has the master's handlers of signals.
BEGINS = """
import pathlib, time, uwsgi
here = pathlib.Path(uwsgi.opt["chdir"].decode())
if uwsgi.worker_id() == 2 and (here / "stuck").exists():
    time.sleep(300)
"""


@pytest.fixture(scope="module")
def real() -> Iterator[AppHost]:
    """Return a host with an Emperor, and releases with an app that runs and with one that does not."""
    with tempfile.TemporaryDirectory(prefix="p") as directory:
        host = host_in(Path(directory))
        texts = {
            "works": APP,
            "hangs": HANGS,
            "half": HALF,
            "needs": NEEDS,
            "tables": TABLES,
            "asgi": "async def app(*_): pass",
        }
        for name, text in texts.items():
            (host.layout.apps / f"{name}.py").write_text(text, encoding="utf-8")
        for release, (reference, preload) in RELEASES.items():
            put_release(host, release, settings=manifest_of(release)["settings"] | {"preload": preload})
            place = host.release_dir(release)
            text = vassal(cast("Entry", ENTRY | {"wsgi": reference, "preload": preload}))
            text = text.replace("/run/uwsgi/api/", f"{host.run_dir}/")
            if release == "11-k":
                text = text.replace("processes = 2", "processes = 3")
            (place / "vassal.ini").write_text(text, encoding="utf-8")
            (place / "slot/praetor_slot").mkdir(parents=True)
            for name, text in slot_files().items():
                (place / "slot/praetor_slot" / name).write_text(text, encoding="utf-8")
            if release == "10-j":
                (place / "slot/praetor_slot/__init__.py").write_text(BEGINS, encoding="utf-8")
            (place / "src").symlink_to(host.layout.apps)
            (place / "venv").symlink_to(sys.prefix)
        program = str(Path(sys.prefix) / "bin/uwsgi")
        wrapper = Path(directory) / "wrapper"
        wrapper.write_text(WRAPPER.format(program=program), encoding="utf-8")
        wrapper.chmod(0o755)
        own = Emperor("api", 1)
        command = [program, "--emperor", str(host.vassals(own)), "--emperor-wrapper", str(wrapper), "--emperor-freq"]
        command += ["1"]
        command += ["--emperor-stats", str(host.emperor_stats(own)), "--emperor-graceful-shutdown"]
        with (
            (Path(directory) / "log").open("wb") as log,
            subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL) as emperor,
        ):
            assert wait_until(host.emperor_stats(own).exists, 60)
            yield host
            emperor.send_signal(signal.SIGINT)
            try:
                emperor.wait(60)
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


def workers_of(host: AppHost, slot: Slot) -> list[int]:
    """Return the processes of a slot's workers, in their order; 0 for one that is not there."""
    return [worker["pid"] for worker in uwsgi.stats(host.stats(slot), 60)["workers"]]


def log_of(host: AppHost) -> str:
    """What the Emperor and its slots have said."""
    return (host.layout.run.parent / "log").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def slot(real: AppHost) -> Slot:
    """Return a slot that passed the gate."""
    return through(real, "1-a")


def test_a_slot_passes_the_gate_and_the_emperor_says_that_it_accepts(real: AppHost, slot: Slot) -> None:
    assert uwsgi.get(real.socket(slot), "/hello?x", "h", 60) == uwsgi.Answer(200, "/hello")
    state = real.emperor_stats(Emperor("api", 1))
    assert wait_until(lambda: uwsgi.vassal_state(state, vassal_of(slot, real).name) == (True, 0), 60)


def test_requests_and_exceptions_are_counted_once(real: AppHost, slot: Slot) -> None:
    before = uwsgi.counters(real.stats(slot), 60)
    assert (before.workers, before.respawns, before.ended, before.busy) == (2, 0, 0, 0)
    uwsgi.get(real.socket(slot), "/", "h", 60)
    with pytest.raises(ValueError, match=r"without an answer|broke its answer"):
        uwsgi.get(real.socket(slot), "/broken", "h", 60)

    def counted() -> tuple[int, int]:
        after = uwsgi.counters(real.stats(slot), 60)
        return after.requests - before.requests, after.exceptions - before.exceptions

    assert wait_until(lambda: counted() == (2, 1), 60)


def test_a_drain_waits_for_a_request_in_flight(real: AppHost, slot: Slot) -> None:
    answers: list[int] = []
    thread = threading.Thread(target=lambda: answers.append(uwsgi.get(real.socket(slot), "/slow", "h", 60).status))
    thread.start()
    assert wait_until(lambda: uwsgi.counters(real.stats(slot), 60).busy == 1, 60)
    drain = Drain(real, slot)
    for _ in range(3):
        assert drain.look(60) is False
        assert drain.state["probed"], "it waits for nothing but the request"
        time.sleep(drains.QUIET_S)
    (real.layout.apps / "on").touch()
    assert drain.wait(60) is True
    assert uwsgi.counters(real.stats(slot), 60).busy == 0
    thread.join()
    assert answers == [200]


def test_a_worker_that_died_is_counted(real: AppHost, slot: Slot) -> None:
    before = uwsgi.counters(real.stats(slot), 60)
    os.kill(workers_of(real, slot)[0], signal.SIGKILL)
    assert wait_until(lambda: uwsgi.counters(real.stats(slot), 60).respawns == before.respawns + 1, 60)


@pytest.mark.usefixtures("slot")
@pytest.mark.parametrize(
    ("release", "words"),
    [
        ("2-b", "worker 1 could not load the app: ModuleNotFoundError: No module named 'breaks'"),
        ("5-e", "uWSGI could not start it"),
        ("9-i", "asgi:app is an ASGI application, and apps here are WSGI applications"),
    ],
)
def test_an_app_that_cannot_be_loaded_is_seen_at_once_and_leaves_nothing(
    real: AppHost, release: str, words: str
) -> None:
    with pytest.raises(ReleaseError, match=words.replace("worker 1", "worker [12]")):
        through(real, release)
    assert "did not die in time" not in log_of(real), "it ended by itself"
    assert [found.release for found in real.slots()] == ["1-a"]
    assert [path.stem for path in real.run_dir.iterdir() if release in path.name] == []


def test_the_gate_waits_until_every_worker_has_loaded_the_app(real: AppHost, monkeypatch: pytest.MonkeyPatch) -> None:
    def one_is_loaded() -> bool:
        with suppress(OSError, ValueError):
            [path] = real.run_dir.glob("api.6-f.*.stats")
            return len(uwsgi.counters(path).loading) == 1
        return False

    # Two looks after the first has loaded it the time is up for the other.
    up, looks = time.monotonic() + 120, itertools.count(1)
    clock = SimpleNamespace(
        monotonic=lambda: 60.0 * next(looks) if one_is_loaded() or time.monotonic() > up else 0.0,
        sleep=time.sleep,
        time=time.time,
    )
    with monkeypatch.context() as patch:
        patch.setattr(gates, "time", clock)
        with pytest.raises(ReleaseError, match=r"worker [12] of 2 had not loaded the app within 60 s of the first"):
            through(real, "6-f")
    (real.layout.apps / "go").touch()
    slot = through(real, "6-f")
    assert uwsgi.counters(real.stats(slot), 60).loading == ()
    remove_slot(real, slot)


def test_the_first_worker_loads_the_app_alone_and_the_others_at_the_same_time(real: AppHost) -> None:
    slot = through(real, "11-k")
    assert len(list(real.layout.apps.glob("loads *"))) == 2
    # One that is replaced waits for nobody.
    os.kill(workers_of(real, slot)[0], signal.SIGKILL)
    assert wait_until(lambda: len(list(real.layout.apps.glob("loads *"))) == 3, 60)
    remove_slot(real, slot)


def test_a_first_worker_that_dies_lets_the_next_load_the_app(real: AppHost) -> None:
    (real.layout.apps / "tables").rmdir()
    for path in real.layout.apps.glob("loads *"):
        path.unlink()
    (real.layout.apps / "dies").touch()
    slot = Slot("api", "11-k", 100)  # not by the gate, which would end it
    vassal_of(slot, real).symlink_to(real.release_dir("11-k") / "vassal.ini")
    gates.rescan(real, Emperor("api", 1))
    assert wait_until(lambda: len(list(real.layout.apps.glob("loads *"))) == 2, 60)
    assert not (real.layout.apps / "dies").exists()
    remove_slot(real, slot)


def test_a_worker_that_cannot_load_the_app_later_tries_again_and_takes_no_other_down(real: AppHost) -> None:
    slot, away = through(real, "7-g"), real.layout.apps / "away"
    pids = workers_of(real, slot)
    away.touch()
    os.kill(pids[0], signal.SIGKILL)
    assert wait_until(lambda: uwsgi.notes(real.state(slot)).get("1", {}).get("failures", 0) >= 2, 60)
    note = uwsgi.notes(real.state(slot))["1"]
    assert (note["loaded"], note["error"]) == (False, "RuntimeError: the database is away")
    assert uwsgi.get(real.socket(slot), "/", "h", 60).status == 200
    found = uwsgi.counters(real.stats(slot), 60)
    assert (workers_of(real, slot)[1], found.loading) == (pids[1], (1,))
    away.unlink()
    assert wait_until(lambda: uwsgi.counters(real.stats(slot), 60).loading == (), 60)
    assert uwsgi.notes(real.state(slot))["1"]["failures"] == 0
    remove_slot(real, slot)


def test_an_app_that_is_loaded_once_passes_the_gate_too(real: AppHost) -> None:
    slot = through(real, "4-d")
    assert uwsgi.get(real.socket(slot), "/hello", "h", 60).body == "/hello"
    remove_slot(real, slot)


def test_a_factory_gets_the_values_that_the_entry_has(real: AppHost) -> None:
    slot = through(real, "12-l")
    assert uwsgi.get(real.socket(slot), "/", "h", 60).body == "('prod-1/a: b', (-3, None), False)"
    remove_slot(real, slot)


def test_a_slot_that_is_removed_ends(real: AppHost, slot: Slot) -> None:
    pids = workers_of(real, slot)
    remove_slot(real, slot)
    assert wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), 60)
    assert [path for path in real.run_dir.iterdir() if path.stem == slot.name] == []


def test_a_worker_that_begins_does_not_hold_up_the_end_of_its_slot(real: AppHost) -> None:
    slot, stuck = through(real, "10-j"), real.layout.apps / "stuck"
    before = workers_of(real, slot)
    stuck.touch()
    os.kill(before[1], signal.SIGKILL)
    assert wait_until(lambda: workers_of(real, slot)[1] not in {0, before[1]}, 60)
    pids = workers_of(real, slot)
    remove_slot(real, slot)
    stuck.unlink()
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    assert "did not die in time" not in log_of(real)


def test_a_slot_that_ends_is_not_loaded_anew(real: AppHost) -> None:
    for _ in range(8):
        slot = through(real, "1-a")
        pids = workers_of(real, slot)
        remove_slot(real, slot)
        assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    assert "binary reloading" not in log_of(real)


@pytest.mark.parametrize("release", ["3-c", "8-h"])
def test_a_slot_that_still_loads_is_ended_at_once(real: AppHost, release: str) -> None:
    slot = Slot("api", release, 1)
    written = real.layout.apps / "pid"
    written.unlink(missing_ok=True)
    vassal_of(slot, real).symlink_to(real.release_dir(release) / "vassal.ini")
    gates.rescan(real, Emperor("api", 1))
    assert wait_until(lambda: written.exists() and written.read_text(encoding="ascii") != "", 60)
    remove_slot(real, slot)
    assert not Path(f"/proc/{written.read_text(encoding='ascii')}").exists(), "it would sleep for much longer"


def test_a_temporary_link_is_no_slot_for_the_emperor(real: AppHost) -> None:
    link = real.vassals(Emperor("api", 1)) / ".tmp.api.1-a.99.ini.new"
    link.symlink_to(real.release_dir("1-a") / "vassal.ini")
    slot = through(real, "1-a")  # by then the Emperor has looked
    found = uwsgi.stats(real.emperor_stats(Emperor("api", 1)), 60)
    link.unlink()
    assert [each["id"] for each in found["vassals"]] == [f"{slot.name}.ini"]
    remove_slot(real, slot)
