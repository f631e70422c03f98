"""An Ansible that is not the project's says so in one line."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from project import ROOT, imported

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


def test_a_playbook_says_so_before_anything_else(tmp_path: Path) -> None:
    # This Ansible, without the engine: `make setup` has put its directory into the path.
    (tmp_path / "sitecustomize.py").write_text("import sys; sys.path.remove(" + repr(str(ROOT / "src")) + ")\n")
    done = subprocess.run(
        [str(Path(sys.executable).with_name("ansible-playbook")), "playbooks/release.yml", "-i", "inventories/prod"],
        cwd=ROOT,
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    [line] = (done.stdout + done.stderr).splitlines()
    assert line.endswith("it has no praetor. Nothing was done. Run: make setup && . .venv/bin/activate")
    assert done.returncode == 4
