"""Whether the process that makes a run still lives: a dead one's lock frees itself, a living one's never."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from praetor.documents import PhaseAnswer
from praetor.run.owner import is_dead, process_start, start, until_locked


@pytest.fixture
def owner() -> Any:
    """Return this very process as the owner of a run."""
    found: Any = start("release", "why")["owner"]
    return found | {"pid": os.getpid(), "started": process_start(os.getpid())}


def test_a_run_says_who_makes_it() -> None:
    run = start("release", "fix")
    assert (run["action"], run["why"]) == ("release", "fix")
    assert run["owner"]["pid"] == os.getppid()
    assert run["owner"]["started"] == process_start(os.getppid())
    assert run["owner"]["namespace"].startswith("pid:[")
    assert start("release", "fix")["id"] != run["id"]


def test_a_process_that_runs_is_alive(owner: Any) -> None:
    assert is_dead(owner) is False


def test_a_process_that_is_gone_is_dead(owner: Any) -> None:
    with subprocess.Popen(["sleep", "60"]) as child:
        owner |= {"pid": child.pid, "started": process_start(child.pid)}
        assert is_dead(owner) is False
        child.kill()
    assert process_start(child.pid) is None
    assert is_dead(owner) is True


def test_a_zombie_is_dead(owner: Any) -> None:
    with subprocess.Popen(["sleep", "60"]) as child:
        owner |= {"pid": child.pid, "started": process_start(child.pid)}
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        # Not waited for yet: the process table still has it.
        assert Path(f"/proc/{child.pid}").exists()
        assert is_dead(owner) is True


def test_another_process_with_the_same_number_is_not_the_owner(owner: Any) -> None:
    assert is_dead(owner | {"started": "1"}) is True


def test_a_reboot_ends_every_process(owner: Any) -> None:
    assert is_dead(owner | {"boot": "another"}) is True


@pytest.mark.parametrize("elsewhere", ["machine", "namespace"])
def test_of_another_controllers_processes_nothing_is_known(owner: Any, elsewhere: str) -> None:
    assert is_dead(owner | {elsewhere: "another", "started": "1"}) is False


def test_a_copied_machine_is_another_one(owner: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: "the-copy")
    assert is_dead(owner | {"boot": "the original's"}) is False


def test_a_name_with_brackets_and_spaces_does_not_confuse() -> None:
    program = "import time, ctypes; ctypes.CDLL(None).prctl(15, b'a) Z (b 1'); print(1, flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as child:
        before = process_start(child.pid)
        assert child.stdout
        child.stdout.readline()
        assert before is not None
        assert process_start(child.pid) == before
        child.kill()


class Module:
    """A module that takes a lock: what it answers, call by call."""

    def __init__(self, *answers: PhaseAnswer) -> None:
        self.answers, self.asked = list(answers), list[str | None]()

    def __call__(self, break_run: str | None) -> PhaseAnswer:
        self.asked.append(break_run)
        return self.answers.pop(0)


def held_by(owner: Any, name: str = "r1", **changes: Any) -> Any:
    return {"reason": "locked", "holder": {"run": {"id": name, "owner": owner | changes}}}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let two seconds pass at once."""
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))


def test_a_free_lock_is_taken() -> None:
    module = Module({"changed": True})
    assert until_locked(module, 0) == {"changed": True}
    assert module.asked == [None]


def test_a_dead_owners_lock_is_taken_over_at_once(owner: Any) -> None:
    module = Module(held_by(owner, boot="another"), {"changed": True})
    assert until_locked(module, 0) == {"changed": True}
    assert module.asked[1] == "r1"


def test_a_living_owners_lock_is_told_at_once(owner: Any) -> None:
    module = Module(held_by(owner))
    assert until_locked(module, 0)["reason"] == "locked"


def test_a_living_owners_lock_is_waited_for(owner: Any) -> None:
    module = Module(held_by(owner), held_by(owner), {"changed": True})
    assert until_locked(module, 10) == {"changed": True}
    assert module.asked[-1] is None


def test_waiting_ends(owner: Any) -> None:
    module = Module(*[held_by(owner)] * 9)
    assert until_locked(module, 5)["reason"] == "locked"
    assert len(module.asked) == 4


def test_a_module_of_a_dead_owner_that_is_still_at_work_is_waited_for(owner: Any) -> None:
    dead = held_by(owner, boot="another")
    module = Module(dead, dead, {"changed": True})
    assert until_locked(module, 10) == {"changed": True}


def test_of_two_dead_runs_each_is_taken_over(owner: Any) -> None:
    module = Module(held_by(owner, boot="x"), held_by(owner, "r2", boot="x"), {"changed": True})
    until_locked(module, 0)
    assert module.asked == [None, "r1", "r2"]
