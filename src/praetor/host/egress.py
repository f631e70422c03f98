"""Where an app may connect to: a table of nftables for its user, which a release writes and each boot loads.

Slots of two releases have the same user, so while they run side by side both may connect to what either of them may.
"""

from __future__ import annotations

import ipaddress
import json
import pathlib
import subprocess
from typing import TYPE_CHECKING

from .layout import AppHost, ReleaseError, read_text, remove, write_atomically

if TYPE_CHECKING:
    from praetor.documents import Manifest, Outgoing

RESOLVERS = pathlib.Path("/etc/resolv.conf")
SHOWN = 5  # refused destinations; the table has them all
_DNS = (("udp", 53), ("tcp", 53))


def limit(host: AppHost, *manifests: Manifest | None) -> bool:
    """Let the app connect to what a release names, or to what several name together while they run side by side; whether anything changed.

    Raises:
        ReleaseError: the rules cannot be put into effect. Those before are.
    """
    rules = _together([found for found in manifests if found])
    if rules is None:
        return unlimit(host)
    if not host.run_dir.is_dir():
        raise ReleaseError(
            f"this host has no {host.run_dir}: it was not provisioned for this app. Run playbooks/deploy.yml (or provision.yml) first."
        )
    text, path = described(host, rules), _file(host)
    if read_text(path) == text and _in_kernel(host):
        return False
    if f'include "{path.parent}/*.nft"' not in (read_text(host.layout.firewall) or ""):
        raise ReleaseError(
            f"{host.layout.firewall} of this host does not load the rules of egress at boot: it is from before there were any. "
            "Nothing was changed. Run playbooks/provision.yml first."
        )
    _nft("-c", "-f", "-", stdin=text)
    path.parent.mkdir(mode=0o755, exist_ok=True)
    # On disk first: whatever ends this run, the next boot must not open what is closed now.
    write_atomically(path, text, 0o644)
    _nft("-f", str(path))
    return True


def unlimit(host: AppHost) -> bool:
    """Let the app connect to anything again; whether it could not before."""
    path = _file(host)
    if not path.exists():
        return False
    _nft("-f", "-", stdin=f"table inet {_table(host)} {{}}\ndelete table inet {_table(host)}\n")
    remove(path)
    return True


def is_current(host: AppHost, manifest: Manifest | None) -> bool:
    """Whether the kernel lets through exactly what a release may connect to, now and after a boot."""
    rules = _together([manifest] if manifest else [])
    if rules is None:
        return not _file(host).exists()
    return read_text(_file(host)) == described(host, rules) and _in_kernel(host)


def refused(host: AppHost) -> list[str]:
    """Where the app tried to connect in the last day but may not, as 192.0.2.1:443/tcp; its table remembers."""
    if not _file(host).exists():
        return []
    command = ["nft", "--json", "--numeric", "list", "table", "inet", _table(host)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = json.loads(done.stdout)["nftables"] if done.returncode == 0 else []
    elements = [each for entry in found for each in entry.get("set", {}).get("elem", [])]
    return sorted(_destination(each) for each in elements)


def explain(host: AppHost) -> str:
    """A sentence for a failed release whose egress may be the reason; empty if nothing was refused."""
    found = refused(host)
    if not found:
        return ""
    more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return (
        f"\nIt tried to connect to {', '.join(found[:SHOWN])}{more}, which its egress does not allow. If it needs that, add it to egress of its "
        "entry in apps."
    )


def described(host: AppHost, rules: list[Outgoing]) -> str:
    """The table: everything to this host itself, to its resolvers, and what the rules name; all else is refused, noted and logged."""
    table = _table(host)
    allowed = [
        *(f"{_to(address)} {protocol} dport {port} accept" for address in _resolvers() for protocol, port in _DNS),
        *dict.fromkeys(f"{_to(address)} {_what(rule)} accept" for rule in rules for address in rule["to"]),
    ]
    indented = "\n".join(f"        {line}" for line in allowed)
    return f"""# Managed by Ansible: written by a release; from egress of the entry of {host.app} in apps. The number is the user's id.
table inet {table} {{}}
delete table inet {table}
table inet {table} {{
    set refused4 {{
        type ipv4_addr . inet_proto . inet_service; flags dynamic,timeout; size 256; timeout 1d
    }}
    set refused6 {{
        type ipv6_addr . inet_proto . inet_service; flags dynamic,timeout; size 256; timeout 1d
    }}
    chain output {{
        type filter hook output priority filter; policy accept;
        meta skuid != {host.uid} accept
        oifname "lo" accept
        ct direction reply accept
{indented}
        meta nfproto ipv4 meta l4proto {{ tcp, udp }} update @refused4 {{ ip daddr . meta l4proto . th dport }}
        meta nfproto ipv6 meta l4proto {{ tcp, udp }} update @refused6 {{ ip6 daddr . meta l4proto . th dport }}
        limit rate 6/minute burst 20 packets log prefix "egress of {host.app} refused: "
        meta l4proto tcp reject with tcp reset
        reject with icmpx admin-prohibited
    }}
}}
"""


def _together(manifests: list[Manifest]) -> list[Outgoing] | None:
    """The rules of several releases in one list; None if one of them may connect to anything, as releases from before there were rules may."""
    found: list[Outgoing] = []
    for manifest in manifests:
        rules = manifest["settings"].get("egress")
        if rules is None:
            return None
        found += rules
    return found if manifests else None


def _what(rule: Outgoing) -> str:
    protocol, ports = rule["protocol"], rule["ports"]
    return f"{protocol} dport {{ {', '.join(map(str, ports))} }}" if ports else f"meta l4proto {protocol}"


def _to(address: str) -> str:
    return f"{'ip6' if ':' in address else 'ip'} daddr {address}"


def _resolvers() -> list[str]:
    """Whom the host's programs ask for names; one on the host itself needs no rule."""
    found = []
    for line in (read_text(RESOLVERS) or "").splitlines():
        words = line.split()
        if words[:1] == ["nameserver"] and len(words) > 1:
            try:
                address = ipaddress.ip_address(words[1].partition("%")[0])
            except ValueError:
                continue
            if not address.is_loopback:
                found.append(str(address))
    return sorted(set(found))


def _destination(element: object) -> str:
    """A member of a set as nft prints it in JSON: with its timeout around it."""
    value = element.get("elem", {}).get("val") if isinstance(element, dict) and "elem" in element else element
    parts = value.get("concat", []) if isinstance(value, dict) else []
    address, protocol, port = [*map(str, parts), "?", "?", "?"][:3]
    protocol = {"6": "tcp", "17": "udp"}.get(protocol, protocol)
    return f"{f'[{address}]' if ':' in address else address}:{port}/{protocol}"


def _in_kernel(host: AppHost) -> bool:
    listed = ["nft", "list", "table", "inet", _table(host)]
    return subprocess.run(listed, capture_output=True, check=False).returncode == 0


def _nft(*arguments: str, stdin: str | None = None) -> None:
    done = subprocess.run(["nft", *arguments], input=stdin, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ReleaseError(
            f"the rules of egress cannot be put into effect: {done.stderr.strip()}\nWhat is live goes on, with the rules that it had."
        )


def _table(host: AppHost) -> str:
    return f"praetor_egress_{host.app}"


def _file(host: AppHost) -> pathlib.Path:
    return host.layout.egress / f"{host.app}.nft"
