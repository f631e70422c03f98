"""One command for each piece of work on a host; the host is this machine, its root a directory."""

import ast
import errno
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.errors import AnsibleActionFail

from praetor.run import on_host


class Here(on_host.HostAction):
    """Runs commands here and counts them."""

    WORK = "freeze"
    ARGUMENTS = {"app": {"type": "str", "required": True}, "thaw": {"type": "bool", "default": False}}  # noqa: RUF012

    def __init__(self, **args: Any) -> None:
        """Take the task's arguments."""
        self._task = SimpleNamespace(args=args)
        self._load_name = "here"
        self.commands: list[str] = []

    def _low_level_execute_command(self, command: str, in_data: bytes) -> dict[str, Any]:
        self.commands.append(command)
        done = subprocess.run(["/bin/sh", "-c", command], input=in_data, capture_output=True, check=False)
        return {"rc": done.returncode, "stdout": done.stdout.decode(), "stderr": done.stderr.decode()}


@pytest.fixture(autouse=True)
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return where the copies lie."""
    monkeypatch.setattr(on_host, "KEPT", str(tmp_path / "kept"))
    on_host._copy.cache_clear()
    return tmp_path / "kept"


THAW = {"app": "no_such_app", "thaw": True, "check": True}
THAWED = {"changed": False, "reason": None}


def test_a_host_gets_its_copy_once(kept: Path) -> None:
    action = Here()
    assert action.on_host(THAW) == THAWED
    assert len(action.commands) == 3
    assert action.on_host(THAW) == THAWED
    assert len(action.commands) == 4
    [copy] = kept.iterdir()
    assert copy.stat().st_mode & 0o777 == 0o700
    # Compiled once, too: that is what is saved.
    assert list(copy.glob("praetor/host/__pycache__/freeze.*.pyc"))


def test_another_version_gets_another_copy(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Here().on_host(THAW)
    [old] = kept.iterdir()
    files = {**on_host._modules(), "praetor/host/freeze.py": b"def work():\n    return {'new': True}\n"}
    monkeypatch.setattr(on_host, "_modules", lambda: files)
    on_host._copy.cache_clear()
    assert Here().on_host({})["new"] is True
    assert old.exists(), "another controller may be at work with it"
    an_hour_ago = time.time() - 3700
    os.utime(old, (an_hour_ago, an_hour_ago))
    on_host._copy.cache_clear()
    monkeypatch.setattr(on_host, "_modules", lambda: {**files, "praetor/host/other.py": b""})
    Here().on_host({})
    assert not old.exists()


def test_two_that_bring_the_copy_at_once_agree(kept: Path) -> None:
    action = Here()
    action.on_host(THAW)
    assert action._low_level_execute_command("/usr/bin/python3 -I -S -", on_host._keeping())["rc"] == 0
    assert [str(path) for path in kept.iterdir()] == [on_host._copy()]
    assert action.on_host(THAW) == THAWED


def test_a_place_that_cannot_be_written_is_named(kept: Path) -> None:
    kept.write_text("")
    found = Here().on_host(THAW)
    assert found["failed"] is True
    assert f"{kept} on the host cannot be written: " in found["msg"]
    assert "File exists" in found["msg"]


def test_what_cannot_be_written_leaves_nothing(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = on_host._modules()
    monkeypatch.setattr(on_host, "_modules", lambda: {**files, "praetor/host/freeze.py/inner.py": b""})
    found = Here().on_host(THAW)
    assert found["failed"] is True
    assert found["msg"].endswith(". What is live goes on serving.")
    assert "\n" not in found["msg"]
    assert list(kept.iterdir()) == []


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_place_is_to_be_given_room(kept: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    files = on_host._modules()
    # The number alone decides: no word of it is English.
    full = f"""
def _write(*_, **__):
    raise OSError({code}, "kein Platz", "/run")
pathlib.Path.write_text = _write
"""
    broken = {**files, "praetor/host/keep.py": files["praetor/host/keep.py"] + full.encode()}
    monkeypatch.setattr(on_host, "_modules", lambda: broken)
    found = Here().on_host(THAW)
    assert found["full"] == on_host.KEPT
    assert found["msg"].endswith("kein Platz: '/run'. What is live goes on serving. Make room there and run again.")
    assert list(kept.iterdir()) == []


def test_what_any_work_found_full_is_to_be_given_room(monkeypatch: pytest.MonkeyPatch) -> None:
    said = {"reason": "kein Platz.", "full": "/srv"}
    monkeypatch.setattr(Here, "_start", lambda *_: {"rc": 0, "stdout": json.dumps(said), "stderr": ""})
    assert Here().on_host(THAW)["reason"] == "kein Platz. Make room there and run again."


def test_no_answer_is_told_with_what_was_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_host, "_START", "raise SystemExit('no memory')\n")
    on_host._modules.cache_clear()
    try:
        found = Here().on_host(THAW)
    finally:
        on_host._modules.cache_clear()
    assert found == {"failed": True, "msg": "no answer from freeze on the host (exit status 1): no memory"}


def test_secrets_do_not_come_back() -> None:
    found = Here().on_host({"app": "x", "until_time": "hunter22", "thaw": False}, ["hunter22"])
    assert found["reason"].startswith("until_time=********: expected a time")


def test_a_problem_fails_an_ordinary_task() -> None:
    found = Here().do({"app": "x", "until_time": "soon", "thaw": False})
    assert found["failed"] is True
    assert found["msg"] == found["reason"]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({}, "missing required arguments: app"),
        ({"app": "x", "untl": "1"}, "Unsupported parameters for (here) module"),
        ({"app": "x"}, "one of the following is required: freeze, thaw"),
        ({"app": "x", "freeze": True, "thaw": True}, "parameters are mutually exclusive: freeze|thaw"),
    ],
)
def test_wrong_arguments_never_reach_the_host(
    args: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ansible.plugins.action.ActionBase.run", lambda *_: {})
    monkeypatch.setattr(Here, "ARGUMENTS", {**Here.ARGUMENTS, "thaw": {"type": "bool"}, "freeze": {"type": "bool"}})
    monkeypatch.setattr(Here, "ONE_OF", ("freeze", "thaw") if "untl" not in args and args else ())
    action = Here(**args)
    with pytest.raises(AnsibleActionFail) as caught:
        action.run()
    assert message in str(caught.value)
    assert not action.commands


def test_nothing_but_the_host_folder_is_sent() -> None:
    host = Path(on_host.__file__).parents[1] / "host"
    here = {f"praetor/host/{path.name}": path.read_bytes() for path in host.glob("*.py")}
    assert {name: content for name, content in on_host._modules().items() if name != "__main__.py"} == here


def test_what_is_sent_needs_nothing_but_itself_and_the_standard_library() -> None:
    roots = {"praetor.host"}
    for name, content in on_host._modules().items():
        tree = ast.parse(content)
        # Types of documents: mypy reads them, and no host has them.
        for part in list(tree.body):
            if isinstance(part, ast.If) and ast.unparse(part.test) == "TYPE_CHECKING":
                named = {ast.unparse(node).split()[1] for node in part.body}
                assert named - sys.stdlib_module_names == {"praetor.documents"}, name
                tree.body.remove(part)
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                roots |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and name != "__main__.py":
                roots.add(str(node.module).partition(".")[0])
            elif isinstance(node, ast.ImportFrom):
                assert node.level <= 1, name
    assert roots - {"praetor.host"} - sys.stdlib_module_names == set()


def test_a_call_loads_only_what_it_uses() -> None:
    heavy = ("csv", "email", "shutil", "tarfile", "tempfile")
    for work in ("survey", "phases"):
        look = f"import sys, praetor.host.call, praetor.host.{work}; print(*(sys.modules.keys() & {set(heavy)}))"
        said = subprocess.run([sys.executable, "-I", "-c", look], capture_output=True, text=True, check=True).stdout
        assert said.split() == [], work
