"""Ansible module: the caching proxy of a lab, a squid with its own configuration."""

from __future__ import annotations

import shutil
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
  dir: {description: Folder for squid.conf, the process record and logs, type: path, required: true}
  config: {description: Text of squid.conf, type: str}
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
            "config": {"type": "str"},
            "cache_dir": {"type": "path"},
            "address": {"type": "str"},
            "port": {"type": "int"},
        },
        required_if=[("state", "up", ("config", "cache_dir", "address", "port"))],
        supports_check_mode=True,
    )
    folder = Path(module.params["dir"])
    record, config, cache = folder / "process.json", folder / "squid.conf", Path(module.params["cache_dir"] or folder)
    control_group = f"praetor-lab/{module.params['lab']}-proxy"
    running = recorded(record) is not None
    if module.params["state"] == "down":
        if not module.check_mode:
            end(record, grace_s=5)
            leave_control_group(control_group)
            shutil.rmtree(folder, ignore_errors=True)
        module.exit_json(changed=running)
    address, port = module.params["address"], module.params["port"]
    current = config.exists() and config.read_text() == module.params["config"]
    if (running and current and answers(address, port)) or module.check_mode:
        module.exit_json(changed=not (running and current))
    end(record, grace_s=5)
    if answers(address, port):
        module.fail_json(msg=f"another program listens on {address}:{port}, where this lab's proxy belongs")
    for path in (folder, cache):
        path.mkdir(parents=True, exist_ok=True)
        shutil.chown(path, "proxy")  # the user that Debian's squid becomes
    config.write_text(module.params["config"])
    if not (cache / "00").is_dir():
        made = subprocess.run(["squid", "-N", "-z", "-f", str(config)], check=False, capture_output=True, text=True)
        if made.returncode != 0:
            module.fail_json(msg=f"squid could not make its cache: {made.stderr.strip()}")
    leave_control_group(control_group)
    spawn(["squid", "-N", "-f", str(config)], record, folder / "squid.log", control_group)
    deadline = time.monotonic() + TIMEOUT_S
    while not answers(address, port):
        if recorded(record) is None or time.monotonic() > deadline:
            log = (folder / "squid.log").read_text(encoding="utf-8", errors="replace").splitlines()
            module.fail_json(msg=f"squid does not answer on {address}:{port}", log="\n".join(log[-20:]))
        time.sleep(0.1)
    module.exit_json(changed=True)


if __name__ == "__main__":
    main()
