"""The tasks of a release as Ansible runs them, on hosts that answer at once: batches in their order, the canary first."""

import os
import subprocess
import sys
from pathlib import Path

from project import ROOT

HOSTS = [f"h{number:02}" for number in range(1, 13)]
PLACES: dict[str, dict[str, int]] = {host: {} for host in HOSTS}
RELEASE = {"app": "api", "id": "2-b", "server_name": "x", "places": PLACES, "options": {"drain_s": 1, "bake_s": 0}}
BATCHES = [HOSTS[:1], HOSTS[1:6], HOSTS[6:]]


def test_a_batch_begins_when_the_one_before_has_ended_and_the_canary_is_first(tmp_path: Path) -> None:
    hosts = "\n".join(f"    {host}: {{ansible_connection: at_once}}" for host in HOSTS)
    (tmp_path / "hosts.yml").write_text(f"app_hosts:\n  hosts:\n{hosts}\n")
    (tmp_path / "book.yml").write_text(f"""\
- hosts: app_hosts
  gather_facts: false
  vars:
    __app: api
    __plan: {{run: {{id: r1, action: release}}, releases: [{RELEASE}]}}
    __release: {{batches: "{{{{ __batches }}}}"}}
    # The canary is the last one to know its batch.
    __batches: "{{{{ {BATCHES} if (inventory_hostname != 'h01' or lookup('ansible.builtin.pipe', 'sleep 1') == '') else [] }}}}"
  tasks:
    - ansible.builtin.import_tasks: {ROOT}/playbooks/tasks/live.yml
""")
    calls = tmp_path / "calls"
    environment = {
        **os.environ,
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_CONNECTION_PLUGINS": str(ROOT / "bench/connection"),
        "AT_ONCE_CALLS": str(calls),
    }
    program = Path(sys.executable).with_name("ansible-playbook")
    command = [str(program), str(tmp_path / "book.yml"), "-i", str(tmp_path / "hosts.yml")]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    order = [call.split()[1] for call in calls.read_text(encoding="utf-8").splitlines() if call.startswith("flip")]
    assert [sorted(order[:1]), sorted(order[1:6]), sorted(order[6:])] == BATCHES
    # What a host that is in no batch of the moment would cost, times all batches.
    assert "skipping" not in done.stdout
