"""Several works on a host in one call: in order, each checked before the host is asked, none behind one that fails."""

import errno
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.errors import AnsibleActionFail, AnsibleConnectionFailure
from project import ROOT, files_of, imported, load

from praetor.host import current_unit, debian_packages, directories, room, secret_files, steps, text_files, withdrawn
from praetor.host.layout import ReleaseError
from praetor.run import steps as said
from praetor.run import trial

ACTION: Any = imported("plugins/action/host_steps.py")


@pytest.fixture(autouse=True)
def owner(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let whoever runs the tests own what root owns on a host."""
    here = SimpleNamespace(pw_uid=os.geteuid(), gr_gid=os.getegid())
    monkeypatch.setattr(directories, "pwd", SimpleNamespace(getpwnam=lambda _: here))
    monkeypatch.setattr(directories, "grp", SimpleNamespace(getgrnam=lambda _: here))
    monkeypatch.setattr(secret_files, "grp", SimpleNamespace(getgrnam=lambda _: here))


def files(**texts: Path | str) -> steps.Step:
    """A step that writes one file."""
    return {
        "work": "text_files",
        "params": {"files": {str(texts["path"]): texts["text"]}},
        "needs": str(texts.get("needs", "")),
    }


def done(*given: steps.Step, check: bool = False) -> dict[str, Any]:
    """What the host says."""
    return steps.work(check=check, steps=list(given))


def test_steps_are_done_in_order_and_tell_what_each_changed(tmp_path: Path) -> None:
    same, new = tmp_path / "same", tmp_path / "new"
    same.write_text("as it was")
    same.chmod(0o644)
    found = done(files(path=same, text="as it was"), files(path=new, text="new"))
    assert [(each["work"], each["changed"]) for each in found["done"]] == [("text_files", False), ("text_files", True)]
    assert (found["changed"], found["reason"], new.read_text()) == (True, None, "new")
    assert [part["after_header"] for part in found["diff"]] == [str(new)]
    assert done(files(path=same, text="as it was"), files(path=new, text="new"))["changed"] is False


def test_nothing_follows_a_step_that_fails(tmp_path: Path) -> None:
    before, behind = tmp_path / "before", tmp_path / "behind"
    found = done(files(path=before, text="b"), files(path="relative", text="x"), files(path=behind, text="b"))
    assert "expected an absolute path" in found["reason"]
    assert (len(found["done"]), before.exists(), behind.exists()) == (2, True, False)
    assert found["changed"] is True


def test_a_full_disk_is_told_as_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path))

    monkeypatch.setattr(text_files, "write", full)
    found = done(files(path=tmp_path / "a", text="a"))
    assert (found["full"], "No space left" in found["reason"]) == (str(tmp_path), True)


def test_a_dry_run_does_not_judge_what_needs_a_package_that_it_would_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(debian_packages, "_installed", lambda _: {"logrotate"})
    package: steps.Step = {"work": "debian_packages", "params": {"name": ["nginx", "logrotate"]}, "needs": ""}
    needy, other = (
        files(path=tmp_path / "a", text="a", needs="nginx"),
        files(path=tmp_path / "b", text="b", needs="logrotate"),
    )
    found = done(package, needy, other, check=True)
    assert [each.get("unjudged") for each in found["done"]] == [None, "nginx", None]
    assert [each["changed"] for each in found["done"]] == [True, False, True]
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(debian_packages, "_installed", lambda _: {"logrotate", "nginx"})
    assert [each["changed"] for each in done(package, needy, other, check=True)["done"]] == [False, True, True]


class Action(ACTION.ActionModule):  # type: ignore[misc]
    """Answers for a host that does what it is asked here."""

    host = "app1"

    def __init__(self, *, check: bool = False, **answers: Any) -> None:
        self._task = SimpleNamespace(check_mode=check)
        self._connection = None
        self.answers = answers
        self.asked: list[list[tuple[str, bool]]] = []

    def on_host(self, params: Any, secret: Any = (), work: str = "") -> dict[str, Any]:
        """Answer, and remember what was asked."""
        del secret, work
        self.asked.append([(step["work"], step["params"].get("confirm", False)) for step in params["steps"]])
        answer = self.answers.get(params["steps"][0]["work"])
        if isinstance(answer, Exception):
            raise answer
        return answer or steps.work(**params)


TRIAL = {
    "trial_file": {
        "name": "t",
        "dest": "/etc/t",
        "content": "",
        "validate": ["true"],
        "apply": ["true"],
        "undo": [["true"]],
    }
}


@pytest.fixture
def logins(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What new logins come to, in turn."""
    given: list[str] = []
    monkeypatch.setattr(trial, "login", lambda _connection, *, until: given.pop(0) if until else "")
    return given


def tried(**more: Any) -> dict[str, Any]:
    """An answer of a host on which a file came into effect on trial."""
    return {"changed": True, "reason": None, "diff": [], "done": [{"work": "trial_file", "changed": True, **more}]}


def test_what_is_on_trial_is_confirmed_before_the_next_step_begins(tmp_path: Path, logins: list[str]) -> None:
    logins.append("")
    action = Action(trial_file=tried(undone_after_s=40))
    found = action.do({"steps": [TRIAL, {"text_files": {"files": {str(tmp_path / "behind"): "x"}}}]})
    assert not found.get("failed"), found
    assert action.asked == [
        [("trial_file", False), ("text_files", False)],
        [("trial_file", True)],
        [("text_files", False)],
    ]
    assert (tmp_path / "behind").exists()


@pytest.mark.parametrize("answer", [tried(undone_after_s=40), AnsibleConnectionFailure("gone")])
def test_nothing_follows_a_trial_after_which_nobody_can_log_in(tmp_path: Path, logins: list[str], answer: Any) -> None:
    logins += ["refused", ""]
    action = Action(trial_file=answer)
    found = action.do({"steps": [TRIAL, {"text_files": {"files": {str(tmp_path / "behind"): "x"}}}]})
    assert found["failed"] is True
    assert "with /etc/t in effect (refused). The host undoes it by itself and answers again" in found["msg"]
    assert (len(action.asked), list(tmp_path.iterdir())) == (1, [])


def test_a_host_that_cannot_be_reached_is_that_and_no_trial() -> None:
    with pytest.raises(AnsibleConnectionFailure):
        Action(directories=AnsibleConnectionFailure("gone")).do({"steps": [{"directories": {"paths": ["/x"]}}]})
    with pytest.raises(AnsibleConnectionFailure):
        Action(check=True, trial_file=AnsibleConnectionFailure("gone")).do({"steps": [TRIAL]})


def test_a_dry_run_confirms_nothing_and_says_what_it_could_not_judge(logins: list[str]) -> None:
    answer = tried(undone_after_s=40)
    answer["done"] += [{"work": "room", "changed": False, "unjudged": "nginx"}] * 2 + [
        {"work": "x", "warnings": ["no kernel"]}
    ]
    found = Action(check=True, trial_file=answer).do({"steps": [TRIAL, TRIAL, TRIAL, TRIAL]})
    assert logins == []
    assert found["warnings"] == [
        "app1: no kernel",
        "app1: nginx is not installed, so a dry run cannot say what changes with it",
    ]


def test_a_step_that_fails_fails_the_task_with_what_was_done_before(tmp_path: Path) -> None:
    given = [
        {"text_files": {"files": {str(tmp_path / "a"): "a"}}},
        {"room": {"path": str(tmp_path), "mib": 10**9, "why": "Too small."}},
    ]
    found = Action().do({"steps": given})
    assert (found["failed"], found["changed"]) == (True, True)
    assert found["msg"].startswith("Too small. It has ")
    assert [each["work"] for each in found["done"]] == ["text_files", "room"]


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ({"text_file": {}}, r"steps\[0\]: found text_file, expected one of current_unit, "),
        ({"login": {"groups": []}, "room": {}}, "found login, room, expected one of"),
        ({"when": True}, "found nothing, expected one of"),
        ({"debian_packages": {"nme": ["x"]}}, r"steps\[0\]\.debian_packages: .*(Unsupported parameters|nme)"),
        ({"debian_packages": {}}, "missing required arguments: name"),
        ({"current_unit": {"name": "x", "retries": "maybe"}}, "retries"),
        ({"directories": {"paths": []}, "when": ""}, r"steps\[0\]\.when: found '', expected true or false"),
    ],
)
def test_a_wrong_step_never_reaches_the_host(step: dict[str, Any], message: str) -> None:
    with pytest.raises(AnsibleActionFail, match=message):
        said.read([step])


def test_a_step_whose_condition_does_not_hold_is_left_out_but_checked() -> None:
    given = [
        {"directories": {"paths": ["/a"]}, "when": False},
        {"directories": {"paths": ["/b"]}, "when": True, "needs": "nginx"},
    ]
    [step] = said.read(given)
    assert (step["params"]["paths"], step["needs"]) == (["/b"], "nginx")
    with pytest.raises(AnsibleActionFail, match="missing required"):
        said.read([{"directories": {}, "when": False}])


def test_roles_name_steps_that_there_are() -> None:
    """What a template fills in is checked when a role runs; the names of works, and of what they take, need no host."""
    for path in files_of("roles/*/tasks/*.yml"):
        for task in load(path) or []:
            for step in task.get("host_steps", {}).get("steps", []):
                [name] = set(step) - {"when", "needs"}
                assert name in said.WORKS, f"{path.relative_to(ROOT)}: {task['name']}"
                if isinstance(step[name], dict):
                    assert set(step[name]) <= set(said._validator(name).argument_spec), (
                        f"{path.relative_to(ROOT)}: {name}"
                    )


def test_a_directory_is_made_and_repaired(tmp_path: Path) -> None:
    place = tmp_path / "a/b"
    asked: dict[str, Any] = {"paths": [str(place)], "mode": "2755"}
    assert directories.work(check=True, **asked)["made"] == [str(place)]
    assert not place.exists()
    assert directories.work(check=False, **asked)["changed"] is True
    assert place.stat().st_mode & 0o7777 == 0o2755
    assert directories.work(check=False, **asked)["changed"] is False
    place.chmod(0o700)
    assert [part["before"][:4] for part in directories.work(check=False, **asked)["diff"]] == ["0700"]
    assert place.stat().st_mode & 0o7777 == 0o2755
    place.rmdir()
    place.write_text("")
    with pytest.raises(ReleaseError, match="is no directory"):
        directories.work(check=False, **asked)


def test_a_file_system_without_room_is_refused_with_the_reason(tmp_path: Path) -> None:
    assert room.work(check=False, path=str(tmp_path), mib=1, why="")["mib"] >= 1
    with pytest.raises(ReleaseError, match=r"Make room\. It has \d+ MiB"):
        room.work(check=False, path=str(tmp_path), mib=10**9, why="Make room.")


def test_secrets_are_written_for_their_owner_and_never_told(tmp_path: Path) -> None:
    place = tmp_path / "secret"
    asked = {str(place): "hunter2"}
    for check, exists in ((True, False), (False, True)):
        found = secret_files.work(check=check, secrets=asked)
        assert (found["changed"], place.exists(), "hunter2" in str(found)) == (True, exists, False)
    assert secret_files.work(check=False, secrets=asked)["changed"] is (os.geteuid() != 0)
    assert (place.read_text(), place.stat().st_mode & 0o777) == ("hunter2", 0o600)
    place.chmod(0o644)
    assert secret_files.work(check=False, secrets=asked)["changed"] is True
    assert place.stat().st_mode & 0o777 == 0o600


def test_what_nobody_wants_any_more_goes_only_where_the_last_file_says_that_it_is_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commands: list[list[str]] = []
    monkeypatch.setattr(withdrawn, "_do", commands.append)
    drop, rules = tmp_path / "drop.conf", tmp_path / "rules"
    asked: dict[str, Any] = {"files": [str(drop), str(rules)], "units": ["auditd.service"], "run": [["augenrules"]]}
    drop.write_text("somebody else's")
    assert withdrawn.work(check=False, **asked) == {"changed": False}
    rules.write_text("ours")
    assert withdrawn.work(check=True, **asked)["changed"] is True
    assert (drop.exists(), commands) == (True, [])
    assert withdrawn.work(check=False, **asked)["changed"] is True
    assert (list(tmp_path.iterdir()), commands) == (
        [],
        [["systemctl", "disable", "--now", "auditd.service"], ["augenrules"]],
    )
    assert withdrawn.work(check=False, **asked)["changed"] is False


def test_a_file_to_begin_with_is_left_to_others_afterwards(tmp_path: Path) -> None:
    place = str(tmp_path / "until.map")
    assert text_files.work(check=False, begin={place: ""})["written"] == [place]
    Path(place).write_text("api 1;\n")
    assert text_files.work(check=False, begin={place: ""})["changed"] is False
    Path(place).chmod(0o600)
    assert text_files.work(check=False, begin={place: ""})["changed"] is True
    assert (Path(place).read_text(), Path(place).stat().st_mode & 0o777) == ("api 1;\n", 0o644)
    with pytest.raises(ReleaseError, match="expected an absolute path"):
        text_files.work(check=False, begin={"until.map": ""})


def test_commands_follow_a_change_and_only_that(tmp_path: Path) -> None:
    told = tmp_path / "told"
    asked: dict[str, Any] = {"files": {str(tmp_path / "a"): "a"}, "run_on_change": [["sh", "-c", f"echo >> {told}"]]}
    text_files.work(check=True, **asked)
    assert not told.exists()
    for _ in range(2):
        text_files.work(check=False, **asked)
    assert told.read_text() == "\n"


def test_a_unit_that_a_host_cannot_run_is_left_alone_with_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(current_unit, "_show", lambda _: {"UnitFileState": "enabled", "ActiveState": "inactive"})
    asked: dict[str, Any] = {
        "check": True,
        "name": "auditd.service",
        "only_if": "ConditionSecurity=audit",
        "otherwise": "no audit",
    }
    monkeypatch.setattr(current_unit, "_holds", lambda _: False)
    assert current_unit.work(**asked) == {"changed": False, "actions": [], "warnings": ["no audit"]}
    monkeypatch.setattr(current_unit, "_holds", lambda _: True)
    assert current_unit.work(**asked)["actions"] == ["start"]
