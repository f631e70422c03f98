"""Ansible module: the bridge of a lab, with the first address of its network."""

from __future__ import annotations

import ipaddress
import json
import re
import subprocess
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = """
module: lab_bridge
short_description: The bridge of a lab
options:
  name: {description: Name of the bridge, type: str, required: true}
  state: {description: Whether it is there, type: str, choices: [present, absent], default: present}
  address: {description: Address of this machine on it with prefix length, type: str}
"""


ADVICE = "give this lab another lab_host_network (PRAETOR_LAB_NET=1 to 99 in the environment)"


def ip(*arguments: str) -> str:
    """Run the ip command and return what it prints; raises CalledProcessError."""
    return subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True).stdout


def links() -> dict[str, dict[str, Any]]:
    """Return every network interface of this machine by name, as ip(8) describes it."""
    found: list[dict[str, Any]] = json.loads(ip("-json", "-details", "address"))
    return {link["ifname"]: link for link in found}


def addresses(link: dict[str, Any]) -> list[str]:
    """Return the IPv4 addresses of an interface with their prefix lengths."""
    return [
        f"{entry['local']}/{entry['prefixlen']}" for entry in link.get("addr_info", []) if entry["family"] == "inet"
    ]


def conflict(found: dict[str, dict[str, Any]], name: str, address: str) -> str:
    """Return which other interface already has addresses of the same network, nothing when none has."""
    network = ipaddress.ip_interface(address).network
    for other, link in found.items():
        for taken in addresses(link) if other != name else ():
            if ipaddress.ip_interface(taken).network.overlaps(network):
                return f"{other} ({taken})"
    return ""


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "address": {"type": "str"},
        },
        required_if=[("state", "present", ("address",))],
        supports_check_mode=True,
    )
    name, address = module.params["name"], module.params["address"]
    if module.params["state"] == "present" and not re.fullmatch(r"[a-z][a-z0-9-]{0,14}", name):
        short = "15 of a-z, 0-9 and dash; the lab's name is too long or has other characters"
        module.fail_json(msg=f"{name} cannot be the name of a network interface, which is at most {short}")
    found = links()
    link = found.get(name)
    if link is not None and link.get("linkinfo", {}).get("info_kind") != "bridge":
        module.fail_json(
            msg=f"the network interface {name} is not a bridge, so it is not the lab's; choose another lab name"
        )
    commands: list[tuple[str, ...]] = []
    if module.params["state"] == "absent":
        commands = [("link", "delete", name)] if link is not None else []
    else:
        taken = conflict(found, name, address)
        if taken:
            module.fail_json(msg=f"{address} for {name} collides with {taken}; {ADVICE}")
        here = addresses(link) if link else []
        commands += [("link", "add", name, "type", "bridge")] if link is None else []
        commands += [("address", "delete", old, "dev", name) for old in here if old != address]
        commands += [("address", "add", address, "dev", name)] if address not in here else []
        commands += [("link", "set", name, "up")] if link is None or "UP" not in link["flags"] else []
    if not module.check_mode:
        for command in commands:
            try:
                ip(*command)
            except subprocess.CalledProcessError as error:
                module.fail_json(msg=f"ip {' '.join(command)}: {error.stderr.strip()}")
    module.exit_json(changed=bool(commands), commands=["ip " + " ".join(command) for command in commands])


if __name__ == "__main__":
    main()
