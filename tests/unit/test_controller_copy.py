"""The copy of what a controller alone has: what it holds, who can open it, and when its absence is told."""

from __future__ import annotations

import json
import stat
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from project import ROOT, ansible

from praetor.pki.authority import load, make
from praetor.pki.copies import fingerprint, pack, unpack
from praetor.pki.pem import PemError
from praetor.run.databases import About, controller_note


@pytest.fixture
def authority(tmp_path: Path) -> Path:
    """Return the directory of an authority."""
    make(tmp_path / "own", "test", datetime.now(UTC))
    return tmp_path / "own"


def test_what_is_brought_back_is_the_same_authority(authority: Path, tmp_path: Path) -> None:
    files = unpack(pack(authority, ["secret"]), tmp_path / "new")
    assert {path.name for path in files} == {"key.pem", "vault-password-1", "authority.pem"}
    assert fingerprint(tmp_path / "new") == fingerprint(authority)
    brought = load(tmp_path / "new")
    assert brought is not None
    assert (tmp_path / "new/vault-password-1").read_text() == "secret"
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in files}
    assert modes == {"key.pem": 0o600, "vault-password-1": 0o600, "authority.pem": 0o644}


def test_another_authority_is_not_overwritten(authority: Path, tmp_path: Path) -> None:
    make(tmp_path / "other", "other", datetime.now(UTC))
    before = fingerprint(tmp_path / "other")
    with pytest.raises(PemError, match="found another authority than that of the copy"):
        unpack(pack(authority, []), tmp_path / "other")
    assert fingerprint(tmp_path / "other") == before
    # The same one may be there already.
    unpack(pack(authority, []), authority)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"authority": 1, "vault": {}}', '{"authority": {}, "vault": {}}'])
def test_what_is_no_copy_is_refused(text: str, tmp_path: Path) -> None:
    with pytest.raises(PemError, match="found something else than a copy"):
        unpack(text, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_without_an_authority_there_is_nothing_to_keep(tmp_path: Path) -> None:
    with pytest.raises(PemError, match="found no authority"):
        pack(tmp_path, [])


OWN, OTHER = "a" * 64, "b" * 64


@pytest.mark.parametrize(
    ("about", "own", "said"),
    [
        ({}, OWN, "backup1 has no copy of this controller's authority"),
        ({"authority": OTHER}, OWN, "backup1 has the copy of another authority"),
        ({"authority": OWN}, OWN, ""),
        # A controller that has none loses none.
        ({}, "", ""),
    ],
)
def test_a_missing_copy_is_told(about: About, own: str, said: str) -> None:
    assert "".join(controller_note("backup1", about, own)).startswith(said)
    assert bool(controller_note("backup1", about, own)) is bool(said)


def run(tmp_path: Path, arguments: dict[str, Any], *options: str) -> dict[str, Any]:
    """Run the action as a playbook would."""
    task = {"controller_copy": arguments, "register": "done", "ignore_errors": True}
    show = {"ansible.builtin.copy": {"content": "{{ done | to_json }}", "dest": str(tmp_path / "done.json")}}
    play = [{"hosts": "localhost", "gather_facts": False, "tasks": [task, show]}]
    (tmp_path / "play.yml").write_text(json.dumps(play))
    said = ansible("ansible-playbook", "-i", "localhost,", "-c", "local", *options, str(tmp_path / "play.yml"))
    assert said.returncode == 0, said.stdout + said.stderr
    return dict(json.loads((tmp_path / "done.json").read_text()))


def test_a_copy_is_opened_by_the_passphrase_that_made_it_only(authority: Path, tmp_path: Path) -> None:
    for name, text in (("right", "a long passphrase"), ("wrong", "another passphrase")):
        (tmp_path / name).write_text(text + "\n")
    (tmp_path / "vault").write_text("that of the vault\n")
    arguments = {"authority_dir": str(authority), "passphrase_file": str(tmp_path / "right")}
    made = run(tmp_path, arguments, f"--vault-password-file={tmp_path / 'vault'}")
    assert made["text"].startswith("$ANSIBLE_VAULT;1.")
    assert json.loads(made["about"])["vault"] is True
    back = {"authority_dir": str(tmp_path / "new"), "text": made["text"]}
    refused = run(tmp_path, {**back, "passphrase_file": str(tmp_path / "wrong")})
    assert "made with another password than the one that is given now" in refused["msg"]
    assert not (tmp_path / "new").exists()
    opened = run(tmp_path, {**back, "passphrase_file": str(tmp_path / "right")})
    assert str(tmp_path / "new/key.pem") in opened["files"]
    assert (tmp_path / "new/vault-password-1").read_text() == "that of the vault"
    assert fingerprint(tmp_path / "new") == fingerprint(authority)


def test_the_password_of_the_example_protects_nothing(authority: Path, tmp_path: Path) -> None:
    refused = run(tmp_path, {"authority_dir": str(authority)})
    assert "which everybody knows" in refused["msg"]
    own = tmp_path / "own-vault-password"
    own.write_text("my own\n")
    made = run(tmp_path, {"authority_dir": str(authority)}, f"--vault-password-file={own}")
    assert json.loads(made["about"])["vault"] is False
    assert (ROOT / "inventories/example-vault-password").exists()
