"""Ansible module: HAProxy shows the certificates that are in its files, without a reload."""

from __future__ import annotations

import hashlib
import re
import socket
import ssl
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: haproxy_certificates
short_description: Let HAProxy take renewed certificates while it runs
options:
  files:
    description: Certificates as the configuration names them, each with its key under the same name with C(.key) behind it.
    type: list
    elements: path
    required: true
  admin:
    description: HAProxy's admin socket.
    type: path
    default: /run/haproxy/admin.sock
notes:
  - A file that HAProxy does not know yet, because its configuration was not loaded, is left to the reload.
  - All of a pair is replaced at once or nothing of it is.
"""

RETURN = r"""
replaced:
  description: The files whose content HAProxy did not have.
  type: list
  elements: str
"""


def fingerprint(chain: str) -> str:
    """Return the SHA-1 of the first certificate of a chain, in the letters that HAProxy uses."""
    first = chain[: chain.index("-----END CERTIFICATE-----")] + "-----END CERTIFICATE-----"
    found = ssl.PEM_cert_to_DER_cert(first[first.index("-----BEGIN CERTIFICATE-----") :])
    return hashlib.sha1(found, usedforsecurity=False).hexdigest().upper()


def shown(answer: str) -> str | None:
    """Return the fingerprint in an answer to C(show ssl cert); None where HAProxy has no such file."""
    found = re.search(r"^SHA1 FingerPrint: ([0-9A-F]+)$", answer, re.MULTILINE)
    return found[1] if found else None


def ask(admin: str, command: str) -> str:
    """Return HAProxy's answer to a command, which may have a payload; nothing where it does not run: it reads the files when it starts."""
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(5)
            connection.connect(admin)
            connection.sendall(command.encode() + b"\n")
            return b"".join(iter(lambda: connection.recv(65536), b"")).decode(errors="replace")
    except (FileNotFoundError, ConnectionRefusedError):
        return ""


def replace(admin: str, file: str, pair: str) -> str:
    """Replace what HAProxy has of a file; returns what went wrong, if anything did."""
    # An empty line would end the payload.
    payload = "\n".join(line for line in pair.splitlines() if line.strip())
    said = ask(admin, f"set ssl cert {file} <<\n{payload}\n")
    if "Transaction created" in said or "Transaction updated" in said:
        said = ask(admin, f"commit ssl cert {file}")
        if "Success" in said:
            return ""
    ask(admin, f"abort ssl cert {file}")
    return f"{file}: HAProxy did not take it and goes on with what it had: {' '.join(said.split())}"


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={
            "files": {"type": "list", "elements": "path", "required": True},
            "admin": {"type": "path", "default": "/run/haproxy/admin.sock"},
        },
        supports_check_mode=True,
    )
    admin: str = module.params["admin"]
    replaced = []
    for file in module.params["files"]:
        if not Path(file).exists():  # a dry run on a host that gets it
            continue
        chain = Path(file).read_text(encoding="ascii")
        if shown(ask(admin, f"show ssl cert {file}")) in {None, fingerprint(chain)}:
            continue
        replaced.append(file)
        if not module.check_mode:
            problem = replace(admin, file, chain + "\n" + Path(f"{file}.key").read_text(encoding="ascii"))
            if problem:
                module.fail_json(msg=problem)
    module.exit_json(changed=bool(replaced), replaced=replaced)


if __name__ == "__main__":
    main()
