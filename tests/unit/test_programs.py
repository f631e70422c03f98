"""The programs of a release are found and imported without being run, and start with the release's environment."""

from __future__ import annotations

import json
import os
import pwd
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from project import ROOT

from praetor.build.parts import quoted
from praetor.host.layout import ReleaseError

SLOT = ROOT / "src/praetor_slot"
FILES = {
    "guarded.py": "import marks\nmarks.put('imported')\nif __name__ == '__main__':\n    marks.put('ran')\n",
    "open.py": "import marks\nimport json\nmarks.put('ran')\n",
    "broken.py": "import a_module_that_nobody_installed\nif __name__ == '__main__':\n    pass\n",
    "broken_open.py": "import a_module_that_nobody_installed\nwhile True:\n    pass\n",
    "package/__init__.py": "import marks\nmarks.put('imported')\n",
    "package/__main__.py": "from . import inner\ninner.run()\n",
    "package/inner.py": "import marks\nmarks.put('inner')\ndef run():\n    marks.put('ran')\n",
    "tasks.py": "import marks\nmarks.put('tasks')\napp = 1\n",
    "marks.py": "import pathlib\ndef put(what):\n    pathlib.Path('marks', what).touch()\n",
}


@pytest.fixture
def project(place: Path) -> Path:
    """Return a project with programs of all kinds."""
    for name, text in FILES.items():
        (place / "src" / name).parent.mkdir(parents=True, exist_ok=True)
        (place / "src" / name).write_text(text, encoding="utf-8")
    (place / "src/marks").mkdir()
    programs = place / "bin"
    programs.mkdir()
    for name in ("celery", "worker"):
        (programs / name).write_text(
            f"#!{sys.executable}\nimport sys\nif __name__ == '__main__':\n    import marks\n    marks.put('ran')\n",
            encoding="utf-8",
        )
        (programs / name).chmod(0o755)
    return place


def look(project: Path, command: str) -> subprocess.CompletedProcess[str]:
    path = f"{project}/bin:{Path(sys.executable).parent}:/usr/bin:/bin"
    return subprocess.run(
        [sys.executable, "-P", str(SLOT / "look.py"), *shlex.split(command)],
        cwd=project / "src",
        env={"PATH": path, "PYTHONPATH": str(project / "src")},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("command", "marks"),
    [
        ("python -m guarded", {"imported"}),
        ("python guarded.py", {"imported"}),
        ("python -m open", set()),
        ("python -u -X utf8 open.py --flag", set()),
        ("python -m package", {"imported", "inner"}),
        ("worker --queue fast", set()),
        ("celery -A tasks worker", {"tasks"}),
        ("celery --app=tasks.app worker", {"tasks"}),
        ("celery --app tasks:app beat", {"tasks"}),
        ("sh -c true", set()),
    ],
)
def test_a_program_is_imported_and_not_run(project: Path, command: str, marks: set[str]) -> None:
    done = look(project, command)
    assert done.returncode == 0, done.stderr
    assert {path.name for path in (project / "src/marks").iterdir()} == marks


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("python -m broken", "No module named 'a_module_that_nobody_installed'"),
        ("python broken_open.py", "No module named 'a_module_that_nobody_installed'"),
        ("python -m absent", "No module named 'absent'"),
        ("python absent.py", "no file absent.py in the project"),
        ("absent", "no program 'absent' in the release's virtualenv or on the host"),
        ("celery -A absent worker", "No module named 'absent'"),
    ],
)
def test_a_program_that_cannot_be_imported_is_found(project: Path, command: str, said: str) -> None:
    done = look(project, command)
    assert done.returncode != 0
    assert said in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
def test_a_program_starts_with_the_releases_environment_and_little_else(place: Path) -> None:
    place.chmod(0o755)
    for name in ("env", "secrets", "src", "venv/bin"):
        (place / name).mkdir(parents=True)
    (place / "env/GREETING").write_text("$HOME 100% \n", encoding="utf-8")
    (place / "secrets/TOKEN").write_text("s3cret", encoding="utf-8")
    nobody = pwd.getpwnam("nobody")
    script = "import json, os, sys; print(json.dumps([sys.argv[1:], dict(os.environ)]))"
    program = place / "run.py"
    program.write_text((SLOT / "run.py").read_text(encoding="utf-8"), encoding="utf-8")
    done = subprocess.run(
        [
            "/usr/bin/python3",
            "-I",
            "-S",
            str(program),
            str(place),
            "app-api-worker-17-2",
            "python3",
            "-c",
            script,
            "${APP_PROCESS}@%h",
        ],
        user=nobody.pw_uid,
        group=nobody.pw_gid,
        env={"SECRET_OF_ROOT": "x", "NOTIFY_SOCKET": "/run/systemd/notify"},
        capture_output=True,
        text=True,
        check=True,
    )
    arguments, found = json.loads(done.stdout)
    assert arguments == ["app-api-worker-17-2@%h"]
    assert found["GREETING"] == "$HOME 100% \n"
    assert found["TOKEN"] == "s3cret"  # noqa: S105  of this test
    assert found["APP_PROCESS"] == "app-api-worker-17-2"
    assert found["NOTIFY_SOCKET"] == "/run/systemd/notify"
    assert found["PATH"].startswith(f"{place}/venv/bin:")
    assert "SECRET_OF_ROOT" not in found


def test_nothing_in_a_command_has_a_meaning_for_systemd() -> None:
    assert (
        quoted(["a b", "50%", "$HOME", 'say "x"', "back\\slash"])
        == '"a b" "50%%" "$$HOME" "say \\"x\\"" "back\\\\slash"'
    )
    with pytest.raises(ReleaseError, match="line end"):
        quoted(["a\nb"])
