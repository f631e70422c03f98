"""What a phase's task makes of what its host said, and what the end of a run makes of all hosts."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.errors import AnsibleConnectionFailure, AnsibleError
from project import imported

from praetor.host.phases import PHASES
from praetor.run.failures import failed, story_of

MODULE = imported("plugins/action/app_phase.py")
PHASE, SMALL = MODULE.ActionModule, MODULE.SMALL
FAILURE = imported("plugins/action/app_failure.py").ActionModule
GATE = {"release": "2-b", "lock_wait": 0}
SETTLE = {"release": "2-b", "reason": None, "bad": False}


def told(
    monkeypatch: pytest.MonkeyPatch, phase: str, params: dict[str, Any], answers: Any, asked: Any = None
) -> dict[str, Any]:
    """Return a phase's result when its host answers so."""

    def on_host(*_: Any) -> dict[str, Any]:
        if isinstance(answers, Exception):
            raise answers
        return dict(answers)

    monkeypatch.setattr(PHASE, "on_host", asked or on_host)
    monkeypatch.setattr(PHASE, "_remove_tmp_path", lambda *_: None)
    action = object.__new__(PHASE)
    action.host = "app1"
    action._connection = SimpleNamespace(_shell=SimpleNamespace(tmpdir=None, join_path=lambda *parts: "/".join(parts)))
    args = dict.fromkeys(PHASES) | {phase: dict(params)}
    return dict(action.do({"app": "api", "run": {"id": "r1"}, **args}))


def test_what_went_well_is_returned(monkeypatch: pytest.MonkeyPatch) -> None:
    result = told(monkeypatch, "gate", GATE, {"changed": True, "reason": None, "slot": "api.2-b.1"})
    assert result == {"changed": True, "reason": None, "slot": "api.2-b.1", "failed": False}


def test_a_failure_fails_the_task_and_its_reason_is_told_later(monkeypatch: pytest.MonkeyPatch) -> None:
    result = told(monkeypatch, "gate", GATE, {"changed": True, "reason": "not healthy", "bad": False})
    assert (result["failed"], result["msg"]) == (True, "gate failed")
    assert result["_ansible_praetor_story"] == {"phase": "gate", "reason": "not healthy", "bad": False}
    assert "not healthy" not in str({key: value for key, value in result.items() if not key.startswith("_ansible_")})


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        (AnsibleConnectionFailure("timed out"), "the host did not answer (timed out)"),
        ({"failed": True, "msg": "no answer from phases"}, "no answer from phases"),
        (FileNotFoundError(2, "", "/cache/a.whl"), "/cache/a.whl is gone from the controller's cache"),
    ],
)
def test_a_host_that_gives_no_answer_has_a_reason_like_any_other(
    monkeypatch: pytest.MonkeyPatch, answers: Any, reason: str
) -> None:
    story = story_of(told(monkeypatch, "gate", GATE, answers))
    assert (story["phase"], story["bad"]) == ("gate", False)
    assert story["reason"].startswith(reason)


@pytest.mark.parametrize(
    ("room", "reason"),
    [
        ({"full": "/home/ops/.ansible/tmp", "reason": "no room there"}, "no room there"),
        ({"reason": None}, "the files of the release could not be brought (sftp says: Failure)"),
    ],
)
def test_after_a_failed_upload_the_host_is_asked_whether_its_disk_is_full(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, room: dict[str, Any], reason: str
) -> None:
    asked = []

    def on_host(_: Any, params: dict[str, Any], *, work: str) -> dict[str, Any]:
        asked.append((work, params["place"], params["size"] > SMALL))
        return room

    def fail(*_: Any) -> None:
        raise AnsibleError("sftp says: Failure")

    large = tmp_path / "large.whl"
    large.write_bytes(bytes(SMALL + 1))
    monkeypatch.setattr(PHASE, "_make_tmp_path", lambda _: "/home/ops/.ansible/tmp/x")
    monkeypatch.setattr(PHASE, "_remote_expand_user", lambda _, path, **__: path.replace("~", "/home/ops"))
    monkeypatch.setattr(PHASE, "get_shell_option", lambda *_: "~/.ansible/tmp")
    monkeypatch.setattr(PHASE, "_transfer_file", fail)
    stage = {"files": {"abc": str(large)}, "missing": ["abc"], "lock_wait": 0}
    told_of = story_of(told(monkeypatch, "stage", stage, {}, on_host))
    assert (told_of["phase"], told_of["reason"]) == ("stage", reason)
    assert asked == [("full", "/home/ops/.ansible/tmp", True)]


def test_a_release_that_cannot_be_settled_says_so_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    result = told(monkeypatch, "settle", SETTLE, {"reason": "no space left"})
    assert (result["failed"], result["msg"]) == (True, "no space left")


def test_the_undoing_of_a_run_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    undoing = {**SETTLE, "reason": "gate failed on app2"}
    for answers in ({"reason": "disk full"}, AnsibleConnectionFailure("gone"), {"failed": True, "msg": "killed"}):
        result = told(monkeypatch, "settle", undoing, answers)
        assert result["failed"] is False
        assert result["reason"]


def test_what_was_repaired_is_said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    told(monkeypatch, "gate", GATE, {"reason": None, "repaired": ["retired slot api.1-a.1"]})
    assert "app1: retired slot api.1-a.1" in capsys.readouterr().out


def ended(host: str, results: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return what a host knows of the end of a run that failed on some of three."""
    hosts = ["app1", "app2", "app3"]
    seen = {name: {"ansible_failed_result": results[name]} if name in results else {} for name in hosts}
    action = object.__new__(FAILURE)
    action._task = SimpleNamespace(args={}, async_val=0, check_mode=False, diff=False)
    action._connection = SimpleNamespace(_shell=SimpleNamespace(tmpdir=None))
    variables = {"inventory_hostname": host, "ansible_play_hosts_all": hosts, "hostvars": seen}
    return dict(action.run(task_vars=variables))


def story(reason: str, *, bad: bool) -> dict[str, Any]:
    """Return the result of a flip that failed."""
    return {**failed({"phase": "flip", "reason": reason, "bad": bad}, changed=False)}


def test_every_host_knows_what_ended_the_run() -> None:
    failed = {"app1": story("5xx", bad=True), "app3": story("gone", bad=False)}
    there, elsewhere = ended("app3", failed), ended("app2", failed)
    assert (there["reason"], elsewhere["reason"]) == ("gone", "stopped, because flip failed on app1, app3")
    for found in (there, elsewhere):
        assert found["what"] == "flip failed on app1, app3"
        assert found["reasons"] == {"app1": "5xx", "app3": "gone"}
        assert found["bad"] is True, "the release failed under traffic: not only where that was seen"


def test_a_failure_that_no_phase_foresaw_is_told_in_ansibles_words() -> None:
    found = ended("app1", {"app2": {"failed": True, "msg": "'__gate' is undefined"}})
    assert found["reasons"] == {"app2": "'__gate' is undefined"}
    assert found["bad"] is False


def test_a_host_that_ansible_took_out_has_told_nothing() -> None:
    assert ended("app1", {})["reason"] == "stopped, because a host dropped out of the run"
