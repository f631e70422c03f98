"""A mistake in an inventory's YAML is named with file and line, before Ansible reads it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from project import ROOT

from praetor.inventory.files import mistakes

VAULT = b"$ANSIBLE_VAULT;1.1;AES256\n36\n"
HOSTS = "app_hosts:\n  hosts:\n    h1: {ansible_host: 192.0.2.10}\n"
ANSIBLE = str(Path(sys.executable).with_name("ansible-playbook"))


def no_password(content: bytes) -> bytes:
    """Open nothing."""
    raise ValueError(content)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Return an inventory without a mistake."""
    (tmp_path / "group_vars/all").mkdir(parents=True)
    (tmp_path / "hosts.yml").write_text(HOSTS, encoding="utf-8")
    return tmp_path


def said(place: Path, text: str | bytes, name: str = "group_vars/all/apps.yml") -> list[str]:
    """What is said of an inventory with this file, without its directory."""
    (place / name).parent.mkdir(parents=True, exist_ok=True)
    (place / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return [each.replace(f"{place}/", "") for each in mistakes([str(place)], ROOT / "playbooks", no_password)]


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("a:\n\tb: 1\n", 2, "indent with spaces, not with a tab"),
        ("a: {b: 1\nc: 2\n", 2, "a flow mapping that begins in line 1: did not find expected ',' or '}'"),
        ("a: [1, 2\n", 2, "a flow sequence that begins in line 1"),
        ('a: "b\nc: d\n', 3, "a quoted scalar that begins in line 1: found unexpected end of stream"),
        ("a: b: c\n", 1, "put a value with a colon in quotes"),
        ("a:\n  - b\n c: d\n", 3, "did not find expected"),
        ("a: {{ b }}/c\n", 1, 'put the template in quotes: a: "{{ b }}/c"'),
        ("a: {{ b }}\n", 1, 'expected a word; a template goes in quotes: "{{ ... }}"'),
        ("a: 1\nb: 2\na: 3\n", 3, "a: found for the second time, the first is in line 1; expected once"),
        ("a:\n  - {b: 1, b: 2}\n", 2, "b: found for the second time"),
        ("a: *b\n", 1, "found undefined alias"),
        ("a: @b\n", 1, "found character that cannot start any token"),
        ("a: 1\n---\nb: 1\n", 2, "but found another document"),
        (b"a: 1\nb: caf\xe9\n", 2, "found a byte that is not UTF-8 (0xe9)"),
        ("a: \x07\n", 1, "found the character 0x07, which YAML does not allow"),
    ],
)
def test_a_mistake_is_named_with_file_and_line(place: Path, text: str | bytes, line: int, words: str) -> None:
    [mistake] = said(place, text)
    assert mistake.startswith(f"group_vars/all/apps.yml:{line}: "), mistake
    assert words in mistake


@pytest.mark.parametrize(
    "text",
    [
        "",
        "# nothing\n",
        "a: &b {c: 1}\nd: {<<: *b, e: 2}\nf: *b\n",
        '{\n\t"a": 1\n}\n',
        "a: !vault |\n  $ANSIBLE_VAULT;1.1;AES256\n  36\n",
        "a: !unsafe '{{ b }}'\n",
    ],
)
def test_what_ansible_takes_is_taken(place: Path, text: str) -> None:
    assert said(place, text) == []


def test_all_files_that_ansible_reads_are_looked_at_and_no_others(place: Path) -> None:
    bad = "a: {\n"
    for name in ("group_vars/app_hosts", "group_vars/web/deep/x.yaml", "host_vars/h1.json", "more.yml"):
        assert [each.partition(":")[0] for each in said(place, bad, name)] == [name]
        (place / name).unlink()
    for name in ("group_vars/all/apps.yml~", "group_vars/.git/x.yml", "group_vars/README.md", "notes.txt", "dynamic"):
        assert said(place, bad, name) == []
    (place / "group_vars/all/apps.yml").write_text(bad, encoding="utf-8")
    next_to_a_file = mistakes([str(place / "hosts.yml")], ROOT / "playbooks", no_password)
    assert len(next_to_a_file) == 1
    assert mistakes(["h1,"], ROOT / "playbooks", no_password) == []


def test_an_inventory_that_is_not_there_is_named(tmp_path: Path) -> None:
    [said] = mistakes([str(tmp_path / "prdo")], ROOT / "playbooks", no_password)
    assert said == f"{tmp_path}/prdo: found no such file or directory, expected an inventory"


def test_a_vaulted_file_that_cannot_be_opened_is_named(place: Path) -> None:
    [mistake] = said(place, VAULT, "group_vars/all/vault.yml")
    assert mistake.startswith(
        "group_vars/all/vault.yml: found a vaulted file that cannot be decrypted, expected the vault"
    )


def test_a_vaulted_files_text_is_not_shown(place: Path) -> None:
    (place / "group_vars/all/vault.yml").write_bytes(VAULT)
    playbooks = ROOT / "playbooks"
    assert mistakes([str(place)], playbooks, lambda _: b"key: fine\n") == []
    [mistake] = mistakes([str(place)], playbooks, lambda _: b"a: 1\nkey: {{ *secret }}\n")
    assert mistake.endswith("group_vars/all/vault.yml:2: found what is not YAML; its text is vaulted and not shown")


def test_every_inventory_of_the_project_is_read() -> None:
    places = [*ROOT.glob("inventories/*/"), *ROOT.glob("molecule/*/inventory"), ROOT / "bench/inventory"]
    assert len(places) > 10
    assert mistakes(map(str, places), ROOT / "playbooks", lambda _: b"") == []


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("group_vars/all/apps.yml", b"a: {\n", ":2: found what is not YAML"),
        ("hosts.yml", b"a: {\n", ":2: found what is not YAML"),
        ("group_vars/all/vault.yml", VAULT, ": found a vaulted file that cannot be decrypted"),
    ],
)
def test_a_playbook_ends_with_the_mistake_before_anything_else(
    place: Path, name: str, content: bytes, words: str
) -> None:
    (place / name).write_bytes(content)
    done = subprocess.run(
        [ANSIBLE, "playbooks/release.yml", "-i", str(place)],
        cwd=ROOT,
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 4
    mistake, count = done.stderr.splitlines()[-2:]
    assert mistake.startswith(f"{place / name}{words}")
    assert count == "1 mistake in the inventory. No host was contacted."
    assert "PLAY" not in done.stdout


def test_an_inventory_that_the_environment_names_is_looked_at_too(place: Path) -> None:
    (place / "group_vars/all/apps.yml").write_text("a: {\n", encoding="utf-8")
    done = subprocess.run(
        [ANSIBLE, "playbooks/check.yml"],
        cwd=ROOT,
        env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_INVENTORY": str(place)},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 4
    assert f"{place}/group_vars/all/apps.yml:2: found what is not YAML" in done.stderr
