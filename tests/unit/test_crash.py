"""A run that is killed at any line leaves a live slot that answers, and the next run repairs what it finds."""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from fakes import FakeEmperor, a_run, put_release

from praetor.documents import Run
from praetor.host import call, uwsgi
from praetor.host import drain as drains
from praetor.host import flip as flips
from praetor.host import gate as gates
from praetor.host import settle as settles
from praetor.host.journal import before, phase
from praetor.host.layout import AppHost

# All lines take some minutes: `CRASH_EVERY=1 pytest tests/test_crash.py`.
EVERY = int(os.environ.get("CRASH_EVERY", "25"))
HOST_CODE = str(Path(call.__file__).parent)
Line = tuple[str, int]

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait less."""
    monkeypatch.setattr(drains, "QUIET_S", 0.01)
    monkeypatch.setattr(drains, "LOOK_S", 0.01)
    monkeypatch.setattr(gates, "POLL_S", 0.01)
    monkeypatch.setattr(gates, "last_lines", lambda *_: "")
    monkeypatch.setattr(flips, "last_lines", lambda *_: "")


def release(host: AppHost, run: Run, target: str, broken: str | None, *, fails: bool = False) -> None:
    """Do what the modules of a run do, one after the other; a run that fails in its bake puts back what was."""
    manifest = host.manifest(target)
    assert manifest
    with phase(host, run, "lock", broken, begins=True) as journal:
        settles.repair(host, journal, 1)
    with phase(host, run, "gate") as journal:
        slot = gates.gate(host, manifest, "x", journal, clients=gates._group_name(os.getgid()))
    with phase(host, run, "flip") as journal:
        limits = flips.Limits(0, 0.01, 3, 20)
        flips.flip_and_bake(host, slot, limits, host.layout.apps / "access.log", journal)
    with phase(host, run, "settle") as journal:
        if fails:
            settles.abandon(host, journal, target, "another host failed", 1)
        else:
            settles.settle(host, journal, target, 5, 1)


def in_child(work: Callable[[], None], at_line: Callable[[Line], None]) -> int:
    """Do something in a separate process, watched line by line; how it ended."""
    child = os.fork()
    if child:
        return os.waitpid(child, 0)[1]

    def trace(frame: FrameType, event: str, _: object) -> Any:
        path = frame.f_code.co_filename
        if not path.startswith(HOST_CODE):
            return None
        if event == "line":
            at_line((Path(path).name, frame.f_lineno))
        return trace

    code = 1
    try:
        sys.settrace(trace)
        work()
        code = 0
    finally:
        os._exit(code)


def serves(host: AppHost) -> str | None:
    """The release behind the live link, as NGINX would reach it."""
    live = host.live()
    if live is None:
        return None
    assert uwsgi.get(host.live_link, "/", "x", 5).status == 200
    return live.release


def clean(host: AppHost) -> None:
    live = host.live()
    assert live
    assert host.slots() == [live]
    assert host.leftovers() == []
    [king] = host.emperors()
    assert {path.stem for path in host.run_dir.iterdir()} == {live.name, f"emperor-{king.number}"}
    assert not host.run_file.exists()


@pytest.mark.parametrize("fails", [False, True], ids=["settled", "put back"])
def test_a_run_that_is_killed_at_any_line_is_repaired_by_the_next(
    host: AppHost,
    emperor: FakeEmperor,
    fails: bool,  # noqa: FBT001
) -> None:
    assert emperor
    for name in ("1-a", "2-b"):
        put_release(host, name)
    release(host, a_run("r0"), "1-a", None)
    # Which lines there are.
    note = host.layout.apps / "lines"

    def write(line: Line) -> None:
        with note.open("a", encoding="utf-8") as file:
            file.write(f"{line[0]} {line[1]}\n")

    ended = in_child(lambda: release(host, a_run("r1"), "2-b", None, fails=fails), write)
    assert ended == 0
    found = dict.fromkeys(note.read_text(encoding="utf-8").split("\n")[:-1])
    assert len(found) > 200
    killed = 0
    for number, where in enumerate(list(found)[::EVERY]):
        was = serves(host)
        target = "2-b" if was == "1-a" else "1-a"
        name, line = where.split()
        here = (name, int(line))

        def die(at: Line, here: Line = here) -> None:
            if at == here:
                os.kill(os.getpid(), signal.SIGKILL)

        run = a_run(f"k{number}")
        ended = in_child(lambda run=run, target=target: release(host, run, target, None, fails=fails), die)  # type: ignore[misc]
        killed += ended == signal.SIGKILL
        # At no instant is nothing served, or something that does not answer.
        assert serves(host) in {"1-a", "2-b"}, where
        release(host, a_run(f"n{number}"), target, f"k{number}")
        assert serves(host) == target, where
        clean(host)
        assert before(host, target) == was, where
    assert killed
