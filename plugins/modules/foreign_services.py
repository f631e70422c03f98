"""Ansible module: what a host does for others, before this project takes it over."""

from __future__ import annotations

import grp
import os
import pwd
import re
import subprocess
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: foreign_services
short_description: Name what provisioning would take off the air
description:
  - Looks at a host whose NGINX, firewall or SSH server is not this project's yet, and names the sites, open ports and users that would stop working.
  - A part that is this project's already is not looked at. Changes nothing.
options:
  ports:
    description: TCP ports that stay open.
    type: list
    elements: int
    required: true
  groups:
    description: Groups whose members may log in by SSH.
    type: list
    elements: str
    required: true
"""

RETURN = r"""
blocked:
  description: Why provisioning cannot work whatever is wanted, a sentence each.
  type: list
  elements: str
lost:
  description: What would stop working, a sentence each.
  type: list
  elements: str
"""

OURS = "# Managed by Ansible: roles/"
NGINX = Path("/etc/nginx")
HAPROXY = Path("/etc/haproxy/haproxy.cfg")
FIREWALL = Path("/etc/nftables.conf")
SSHD = Path("/etc/ssh/sshd_config.d/00-praetor.conf")
# Debian's welcome page.
WELCOME = "/etc/nginx/sites-available/default"
SHELLS = ("nologin", "false", "sync")


def is_ours(path: Path) -> bool:
    """Tell whether a file says that this project wrote it."""
    try:
        return OURS in path.read_text(encoding="utf-8", errors="replace")[:200]
    except OSError:
        return False


def foreign_sites(nginx: Path) -> list[str]:
    """Name the configuration files of sites that somebody else put into NGINX, with the names that they serve."""
    if not (nginx / "nginx.conf").is_file() or is_ours(nginx / "nginx.conf"):
        return []
    found = []
    for path in sorted([*nginx.glob("sites-enabled/*"), *nginx.glob("conf.d/*.conf")]):
        try:
            text = path.read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        plain = re.sub(r"#.*", "", text)
        if str(path.resolve()) == WELCOME or not re.search(r"\b(server|upstream)\b[^;{]*\{", plain):
            continue
        names = [name for line in re.findall(r"\bserver_name\s+([^;]+);", plain) for name in line.split()]
        found.append(f"NGINX's site {path} ({', '.join(names) or 'no name'}) would be served no more")
    return found


def listeners(text: str) -> dict[int, str]:
    """Read `ss -Hltnp`: which program listens on which port of an address that others reach."""
    found: dict[int, str] = {}
    for line in text.splitlines():
        columns = line.split()
        if len(columns) < 5:
            continue
        address, _, port = columns[3].rpartition(":")
        address = address.strip("[]").partition("%")[0]
        if address.startswith("127.") or address in {"::1", "::ffff:127.0.0.1"}:
            continue
        program = re.search(r'users:\(\("([^"]+)"', line)
        found.setdefault(int(port), program[1] if program else "a program that cannot be seen")
    return found


def open_ports(listening: dict[int, str], ports: list[int]) -> list[str]:
    """Name the ports that the firewall would close."""
    # What NGINX listens on is its sites' matter.
    return [
        f"port {port} ({program}) would be closed by the firewall"
        for port, program in sorted(listening.items())
        if port not in ports and program not in {"nginx", "sshd", "systemd-resolve"}
    ]


def taken(listening: dict[int, str], ports: list[int], haproxy: Path = HAPROXY) -> list[str]:
    """Say who holds the ports of the sites, if it is not NGINX, or this project's HAProxy on a balancer."""
    ours = {"nginx", "haproxy"} if is_ours(haproxy) else {"nginx"}
    return [
        f"port {port} is taken by {listening[port]}, and NGINX needs it: stop that program and disable it"
        for port in (80, 443)
        if port in ports and listening.get(port, "nginx") not in ours
    ]


def locked_out(groups: list[str]) -> list[str]:
    """Name the users who can log in by a key today and are in none of the groups."""
    allowed = {number.gr_gid for number in grp.getgrall() if number.gr_name in groups}
    found = []
    for user in pwd.getpwall():
        keys = Path(user.pw_dir) / ".ssh" / "authorized_keys"
        if user.pw_shell.rpartition("/")[2] in SHELLS:
            continue
        try:
            has_key = bool(keys.read_text(encoding="utf-8", errors="replace").strip())
        except OSError:
            continue
        if has_key and user.pw_uid == 0:
            found.append("root could not log in by SSH any more")
        elif has_key and not allowed & set(os.getgrouplist(user.pw_name, user.pw_gid)):
            found.append(
                f"user {user.pw_name} could not log in by SSH any more: in none of the groups {', '.join(groups)}"
            )
    return found


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={
            "ports": {"type": "list", "elements": "int", "required": True},
            "groups": {"type": "list", "elements": "str", "required": True},
        },
        supports_check_mode=True,
    )
    ports, groups = module.params["ports"], module.params["groups"]
    done = subprocess.run(["ss", "-Hltnp"], capture_output=True, text=True, check=False)
    listening = listeners(done.stdout)
    lost = foreign_sites(NGINX)
    lost += [] if is_ours(FIREWALL) else open_ports(listening, ports)
    lost += [] if is_ours(SSHD) else locked_out(groups)
    module.exit_json(changed=False, blocked=taken(listening, ports), lost=lost)


if __name__ == "__main__":
    main()
