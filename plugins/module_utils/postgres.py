"""PostgreSQL as Debian lays it out: one cluster `main` a host. What the modules of database hosts share; standard library only."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

SEPARATOR = "\x1f"


class PostgresError(Exception):
    """What PostgreSQL, or one of its programs, said."""


@dataclass(frozen=True)
class Cluster:
    """The cluster `main` of one version."""

    version: int
    root: Path = Path("/")

    @property
    def data(self) -> Path:
        """Where its data is."""
        return self.root / f"var/lib/postgresql/{self.version}/main"

    @property
    def settings(self) -> Path:
        """Where its configuration is."""
        return self.root / f"etc/postgresql/{self.version}/main"

    @property
    def unit(self) -> str:
        """The unit that runs it."""
        return f"postgresql@{self.version}-main.service"

    @property
    def unfinished(self) -> Path:
        """Says that the data directory is not what it shall become: a copy was begun and has not ended."""
        return self.root / f"var/lib/postgresql/{self.version}/main.unfinished"

    @property
    def restoring(self) -> Path:
        """Says that the data directory is being restored, and up to when; it goes when the host serves as the primary."""
        return self.root / f"var/lib/postgresql/{self.version}/main.restoring"

    @property
    def restored(self) -> Path:
        """Says up to when the data directory was restored, until a standby of it is made: the same restore again is done already."""
        return self.root / f"var/lib/postgresql/{self.version}/main.restored"

    def exists(self) -> bool:
        """Whether there is a whole data directory."""
        return (self.data / "PG_VERSION").exists() and not self.unfinished.exists()

    def follows(self) -> bool:
        """Whether it starts as a standby, or to be restored: never as a primary without a word."""
        return any((self.data / name).exists() for name in ("standby.signal", "recovery.signal"))

    def retired(self) -> bool:
        """Whether it is kept from an earlier version, or is being made for a later one: nobody starts it."""
        path = self.settings / "start.conf"
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        return "disabled" in [line.strip() for line in lines]

    def program(self, name: str) -> str:
        """Return the path of one of PostgreSQL's programs."""
        return f"/usr/lib/postgresql/{self.version}/bin/{name}"


def run(*argv: str, stdin: str | None = None) -> str:
    """Run a program as the user postgres, in English; what it wrote.

    Raises:
        PostgresError: it failed.

    """
    command = list(argv) if os.geteuid() != 0 else ["runuser", "-u", "postgres", "--", *argv]
    environment = {"LC_ALL": "C.UTF-8", "LC_MESSAGES": "C", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
    feed = {"stdin": subprocess.DEVNULL} if stdin is None else {"input": stdin}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, cwd="/", **feed)
    if done.returncode:
        said = (done.stderr or done.stdout).strip()
        raise PostgresError(f"{Path(argv[0]).name} ended with {done.returncode}: {said[-2000:]}")
    return str(done.stdout)


def query(sql: str, database: str = "postgres") -> list[list[str]]:
    """Run SQL over the host's own socket as postgres and return its rows; the text travels by standard input, never as an argument."""
    out = run(
        *("psql", "-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-F", SEPARATOR, "-d", database, "-f", "-"),
        stdin=sql,
    )
    return [line.split(SEPARATOR) for line in out.splitlines() if line]


def create(cluster: Cluster, *, start: str = "auto") -> None:
    """Make an empty cluster, with its configuration."""
    options = ["--locale=C.UTF-8", "--encoding=UTF8", f"--start-conf={start}"]
    command = ["pg_createcluster", *options, str(cluster.version), "main", "--", "--data-checksums"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if done.returncode:
        raise PostgresError(f"pg_createcluster ended with {done.returncode}: {done.stderr.strip()}")


def number(lsn: str) -> int:
    """Return a place in the WAL as a number."""
    high, low = lsn.split("/")
    return (int(high, 16) << 32) + int(low, 16)


def literal(text: str) -> str:
    """Write a string for SQL."""
    if "\\" in text or "\0" in text:
        raise PostgresError(f"{text!r} cannot be a name or a value here")
    return "'" + text.replace("'", "''") + "'"


def name(text: str) -> str:
    """Write a name for SQL."""
    return '"' + text.replace('"', '""') + '"'


def verifier(password: str, salt: bytes, iterations: int = 4096) -> str:
    """Return what PostgreSQL keeps of a password (RFC 5803), so that the password itself reaches no server, log or statistics."""
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, iterations)
    client = hmac.digest(salted, b"Client Key", "sha256")
    server = hmac.digest(salted, b"Server Key", "sha256")
    stored, kept, salt64 = (
        base64.b64encode(value).decode() for value in (hashlib.sha256(client).digest(), server, salt)
    )
    return f"SCRAM-SHA-256${iterations}:{salt64}${stored}:{kept}"


def is_verifier_of(kept: str, password: str) -> bool:
    """Whether what PostgreSQL keeps belongs to this password."""
    try:
        kind, middle, _keys = kept.split("$")
        iterations, salt = middle.split(":")
        return kind == "SCRAM-SHA-256" and kept == verifier(password, base64.b64decode(salt), int(iterations))
    except ValueError:
        return False


TARGETS = ("recovery_target", "restore_command")
"""Settings with which a restore says up to when: whoever follows afterwards must not stop there."""


def without_targets(text: str) -> str:
    """Return the text of postgresql.auto.conf without what a restore wrote into it."""
    return "".join(line for line in text.splitlines(keepends=True) if not line.lstrip().startswith(TARGETS))


def forget_targets(data: Path) -> None:
    """Take out of a copied data directory up to when its source was once restored."""
    path = data / "postgresql.auto.conf"
    if path.exists():
        text = path.read_text(encoding="utf-8")
        path.write_text(without_targets(text), encoding="utf-8")


def empty(directory: Path) -> None:
    """Remove what is in a directory; the directory stays, with its owner and mode."""
    for inner in directory.iterdir():
        if inner.is_dir() and not inner.is_symlink():
            shutil.rmtree(inner)
        else:
            inner.unlink()
