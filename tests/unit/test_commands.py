"""A single command runs in a unit like those of the app's processes, and nothing in it has a meaning for systemd."""

from __future__ import annotations

from typing import Any

import pytest
from fakes import put_release, put_slot

from praetor.host import commands
from praetor.host.journal import history
from praetor.host.layout import AppHost, ReleaseError
from praetor.host.output import Ended

UNIT = "# Release: 1-a\n[Service]\nUser=api\nSystemCallFilter=@system-service\nSystemCallFilter=~@privileged\n# why\nReadWritePaths=/data\n"


@pytest.fixture
def asked(host: AppHost, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Return what systemd is asked to run; each command prints a line and ends with status 3."""
    found: list[list[str]] = []

    def run(command: list[str]) -> Ended:
        found.append(command)
        return Ended(" ".join(command), 3, None, "said\n", 0)

    monkeypatch.setattr(commands, "AppHost", lambda _: host)
    monkeypatch.setattr(commands, "run", run)
    return found


def told(command: list[str]) -> dict[str, Any]:
    return commands.work(app="api", command=command, timeout_s=60, by="ann@desk")


def test_it_has_the_directives_of_the_app(host: AppHost, asked: list[list[str]]) -> None:
    put_release(host, "1-a")
    (host.release_dir("1-a") / "units/command.service").write_text(UNIT, encoding="utf-8")
    host.flip(put_slot(host, "1-a", 1))
    found = told(["flask", "say", "$HOME"])
    assert (found["status"], found["output"], found["release"]) == (3, "said\n", "1-a")
    [command] = asked
    assert "--property=User=api" in command
    assert [word for word in command if "SystemCallFilter" in word] == [
        "--property=SystemCallFilter=@system-service",
        "--property=SystemCallFilter=~@privileged",
    ]
    assert "--property=RuntimeMaxSec=60" in command
    assert command[-3:] == ["flask", "say", "$$HOME"]
    [entry] = history(host)
    assert [entry[key] for key in ("action", "result", "by", "why")] == ["run", "failed", "ann@desk", "flask say $HOME"]


def test_where_nothing_is_live_nothing_is_run(host: AppHost, asked: list[list[str]]) -> None:
    with pytest.raises(ReleaseError, match="nothing of api is live on this host"):
        told(["flask"])
    put_release(host, "1-a")
    host.flip(put_slot(host, "1-a", 1))
    with pytest.raises(ReleaseError, match="release api again"):
        told(["flask"])
    assert asked == []
