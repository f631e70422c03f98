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
