"""The playbooks, as far as Ansible can judge them without a host."""

import pytest
from project import PLAYBOOKS, ROOT, ansible, load


def test_every_playbook_is_understood_by_ansible() -> None:
    done = ansible("ansible-playbook", "-i", "inventories/lab", "--syntax-check", *PLAYBOOKS)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("playbook: ") == len(PLAYBOOKS)


@pytest.mark.parametrize("playbook", PLAYBOOKS)
def test_facts_are_gathered_only_where_a_play_says_so(playbook: str) -> None:
    for play in load(ROOT / playbook):
        if "ansible.builtin.import_playbook" not in play:
            assert "gather_facts" in play, play.get("name")
