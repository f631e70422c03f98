"""Ansible module: the caching proxy of a lab, a squid of its own with its own configuration."""

from __future__ import annotations

import socket
import subprocess
import time
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.lab_process import end, leave_control_group, recorded, spawn

DOCUMENTATION = """
module: lab_proxy
short_description: The caching proxy of a lab
options:
  lab: {description: Name of the lab, type: str, required: true}
  state: {description: Whether it runs, type: str, choices: [up, down], default: up}
  dir: {description: Folder with squid.conf; the process record and logs go there, type: path, required: true}
  cache_dir: {description: Folder for downloaded packages, type: path}
  address: {description: Address that squid.conf listens on, type: str}
  port: {description: Port that squid.conf listens on, type: int}
"""

TIMEOUT_S = 30


def answers(address: str, port: int) -> bool:
    """Say whether something accepts connections there."""
    try:
        with socket.create_connection((address, port), timeout=1):
            return True
    except OSError:
        return False


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={
            "lab": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["up", "down"], "default": "up"},
            "dir": {"type": "path", "required": True},
            "cache_dir": {"type": "path"},
            "address": {"type": "str"},
            "port": {"type": "int"},
        },
        required_if=[("state", "up", ("cache_dir", "address", "port"))],
        supports_check_mode=True,
    )
    folder = Path(module.params["dir"])
    record, running_config, config = folder / "process.json", folder / "running.conf", folder / "squid.conf"
    control_group = f"praetor-lab/{module.params['lab']}-proxy"
    running = recorded(record) is not None
    if module.params["state"] == "down":
        if not module.check_mode:
            end(record, grace_s=5)
            leave_control_group(control_group)
        module.exit_json(changed=running)
    address, port = module.params["address"], module.params["port"]
    current = running_config.exists() and running_config.read_text() == config.read_text()
    if (running and current and answers(address, port)) or module.check_mode:
        module.exit_json(changed=not (running and current))
    end(record, grace_s=5)
    if answers(address, port):
        module.fail_json(msg=f"another program listens on {address}:{port}, where this lab's proxy belongs")
    if not (Path(module.params["cache_dir"]) / "00").is_dir():
        made = subprocess.run(["squid", "-N", "-z", "-f", str(config)], check=False, capture_output=True, text=True)
        if made.returncode != 0:
            module.fail_json(msg=f"squid could not make its cache: {made.stderr.strip()}")
    leave_control_group(control_group)
    running_config.write_text(config.read_text())
    spawn(["squid", "-N", "-f", str(running_config)], record, folder / "squid.log", control_group)
    deadline = time.monotonic() + TIMEOUT_S
    while not answers(address, port):
        if recorded(record) is None or time.monotonic() > deadline:
            log = (folder / "squid.log").read_text(encoding="utf-8", errors="replace").splitlines()
            module.fail_json(msg=f"squid does not answer on {address}:{port}", log="\n".join(log[-20:]))
        time.sleep(0.1)
    module.exit_json(changed=True)


if __name__ == "__main__":
    main()
