"""What a host does for others, before this project takes it over."""

from __future__ import annotations

import grp
import os
import pwd
import re
import subprocess
from pathlib import Path
from typing import Any

from .layout import ReleaseError

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


def work(*, check: bool, ports: list[int], groups: list[str], take_over: bool = False) -> dict[str, Any]:
    """Refuse a host whose NGINX, firewall or SSH server is not this project's yet, and of which sites, open ports or users would stop working.

    A part that is this project's already is not looked at. `ports` stay open, members of `groups` may log in. With `take_over` only what
    cannot work whatever is wanted is refused. Changes nothing.

    Raises:
        ReleaseError: what would stop working, a sentence each.
    """
    del check
    done = subprocess.run(["ss", "-Hltnp"], capture_output=True, text=True, check=False)
    listening = listeners(done.stdout)
    lost = foreign_sites(NGINX)
    lost += [] if is_ours(FIREWALL) else open_ports(listening, ports)
    lost += [] if is_ours(SSHD) else locked_out(groups)
    blocked = taken(listening, ports)
    if blocked or (lost and not take_over):
        raise ReleaseError(refusal(blocked, lost))
    return {"changed": False}


def refusal(blocked: list[str], lost: list[str]) -> str:
    """Say what the host does for others, and how to take it over where that is possible."""
    way = [] if blocked else ["If that is meant: -e base_take_over=true"]
    return "\n".join(["This host does something for others. Nothing was changed on it.", *blocked, *lost, *way])
