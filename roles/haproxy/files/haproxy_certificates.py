# Managed by Ansible: roles/haproxy. Changes here are overwritten.
"""Lets HAProxy show the certificates that are in its files, without a reload; prints those that it did not have.

    python3 haproxy_certificates [DIRECTORY [ADMIN SOCKET]]

Each certificate of the directory has its key under the same name with .key behind it; all of a pair is replaced at once or nothing of it is.
A file that HAProxy does not know yet, because its configuration was not loaded, is left to the reload.
"""

import hashlib
import re
import socket
import ssl
import sys
from pathlib import Path

DIRECTORY, ADMIN = "/etc/haproxy/certificates", "/run/haproxy/admin.sock"


def fingerprint(chain: str) -> str:
    """Return the SHA-1 of the first certificate of a chain, in the letters that HAProxy uses."""
    first = chain[: chain.index("-----END CERTIFICATE-----")] + "-----END CERTIFICATE-----"
    found = ssl.PEM_cert_to_DER_cert(first[first.index("-----BEGIN CERTIFICATE-----") :])
    return hashlib.sha1(found, usedforsecurity=False).hexdigest().upper()


def shown(answer: str) -> str | None:
    """Return the fingerprint in an answer to `show ssl cert`; None where HAProxy has no such file."""
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


def main() -> int:
    """Replace what is another one in its file; returns the exit code."""
    directory, admin = [*sys.argv[1:], *[DIRECTORY, ADMIN][len(sys.argv) - 1 :]][:2]
    wrong = []
    for file in sorted(Path(directory).glob("*.pem")):
        if not file.exists():  # a link to what is no longer there
            continue
        chain = file.read_text(encoding="ascii")
        if shown(ask(admin, f"show ssl cert {file}")) in {None, fingerprint(chain)}:
            continue
        problem = replace(admin, str(file), chain + "\n" + Path(f"{file}.key").read_text(encoding="ascii"))
        if problem:
            wrong.append(problem)
        else:
            sys.stdout.write(f"{file}\n")
    sys.stderr.write("".join(f"{problem}\n" for problem in wrong))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
