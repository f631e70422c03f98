"""An Ansible that is not the project's says so in one line."""

import sys

import pytest
from project import imported

PLUGIN = imported("plugins/callback/right_ansible.py")


def test_the_projects_own_ansible_has_all() -> None:
    assert PLUGIN.missing() == []
    PLUGIN.CallbackModule()


def test_another_ansible_ends_the_run_with_the_command_to_type(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(PLUGIN, "NEEDED", ("praetor", "no_such_library"))
    with pytest.raises(SystemExit):
        PLUGIN.CallbackModule()
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(f"This Ansible ({sys.executable}) is not the project's: it has no no_such_library.")
    assert line.endswith("Run: make setup && . .venv/bin/activate")
