"""What an app itself said is shown without what uWSGI says at every start."""

import os
import pwd
import re
import subprocess
from typing import Any

import pytest

from praetor.host import logs
from praetor.host.layout import AppHost

PRINTED = """[uWSGI] getting INI configuration from /etc/uwsgi/vassals/api.1-a.1.ini
*** Starting uWSGI 2.0.30 ***
spawned uWSGI master process (pid: 1)
Traceback (most recent call last):
ModuleNotFoundError: No module named 'nope'
*** no app loaded. GAME OVER ***
Traceback (most recent call last):
of the second try
"""


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Answer for journalctl; what it was asked."""
    found: list[list[str]] = []

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        found.append(command)
        return subprocess.CompletedProcess(command, 0, PRINTED if "--sync" not in command else "", "")

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(logs, "user_of", lambda _: pwd.getpwuid(os.getuid()))
    return found


def test_the_first_try_is_shown_without_chatter(host: AppHost, asked: list[list[str]]) -> None:
    assert logs.last_lines(host, 1000.0).splitlines() == [
        "Traceback (most recent call last):",
        "ModuleNotFoundError: No module named 'nope'",
    ]
    assert {f"_UID={os.getuid()}", "--since=@1000.000"} <= set(asked[-1])


@pytest.mark.usefixtures("asked")
def test_only_the_last_lines_are_shown(host: AppHost) -> None:
    assert logs.last_lines(host, 1000.0, count=1) == "ModuleNotFoundError: No module named 'nope'"


def test_silence_says_where_to_look(host: AppHost, asked: list[list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_CHATTER", re.compile(""))
    assert logs.last_lines(host, 1000.0).startswith(f"(nothing; look with: journalctl _UID={os.getuid()}")
    assert asked


RELEASE = "/srv/apps/shop/releases/1.0-abcdef12"


@pytest.mark.parametrize(
    ("line", "key"),
    [
        (f"PermissionError: [Errno 13] Permission denied: '{RELEASE}/src/instance'", "data: [instance]"),
        (f"OSError: [Errno 30] Read-only file system: '{RELEASE}/src/logs/app.log'", "data: [logs]"),
        (f"PermissionError: [Errno 13] Permission denied: '{RELEASE}/venv/var/flaskr-instance'", "data: [venv/var]"),
        ("PermissionError: [Errno 13] Permission denied: 'uploads/a.png'", "data: [uploads]"),
        ("PermissionError: [Errno 13] Permission denied: './app.log'", "data: [app.log]"),
        ("sqlite3.OperationalError: unable to open database file", "data: [app.db]"),
        ("django.db.utils.OperationalError: attempt to write a readonly database", "data: [app.db]"),
        ("PermissionError: [Errno 13] Permission denied: '/etc/shadow'", ""),
        (f"PermissionError: [Errno 13] Permission denied: '{RELEASE}/venv/lib/python3.11/x'", "${APP_DATA_DIR}"),
        ("ModuleNotFoundError: No module named 'yaml.cyaml'", "extra_requirements: [PyYAML]"),
        ("ModuleNotFoundError: No module named 'distutils'", "extra_requirements: [setuptools]"),
        ("ModuleNotFoundError: No module named 'six'", "extra_requirements: [six]"),
        ("worker 2 could not load the app: ModuleNotFoundError: No module named 'local'", "include: [local.py]"),
        ("ImportError: cannot import name 'x' from 'y'", ""),
    ],
)
def test_an_app_that_stopped_is_told_the_key_that_helps(line: str, key: str) -> None:
    hint = logs.advice(f"Traceback (most recent call last):\n{line}\nunable to load app 0")
    assert key in hint
    assert bool(hint) == bool(key)


WORKER = """Traceback (most recent call last):
  File "db.py", line 3, in <module>
    connect()
OSError: refused

During handling of the above exception, another exception occurred:

Traceback (most recent call last):
  File "api.py", line 1, in <module>
    import db
RuntimeError: no database"""


def test_the_same_traceback_of_every_worker_is_shown_once() -> None:
    end = "worker 2: unable to load app"
    twice = [*WORKER.splitlines(), "worker 1: unable to load app", *WORKER.splitlines(), end]
    assert logs.tracebacks_once(twice) == [*WORKER.splitlines(), "worker 1: unable to load app", end]


def test_heads_of_workers_that_fail_at_the_same_time_are_one() -> None:
    head, *frames = WORKER.splitlines()[:4]
    ends = ["worker 1: unable to load app", "worker 2: unable to load app"]
    assert logs.tracebacks_once([head, head, *frames, ends[0], *frames, ends[1]]) == [head, *frames, *ends]


def test_another_traceback_is_shown() -> None:
    other = WORKER.replace("line 3", "line 4").splitlines()
    assert [line for line in logs.tracebacks_once([*WORKER.splitlines(), *other]) if "db.py" in line] == [
        '  File "db.py", line 3, in <module>',
        '  File "db.py", line 4, in <module>',
    ]
