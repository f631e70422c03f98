"""What was built into the image: which app, which release, and what its entry in the inventory says."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

FACTS = Path("/etc/praetor-image.json")
LIBRARY = Path("/usr/local/lib/praetor")


class RefusedError(Exception):
    """What the person who started the container must read: what is wrong, and what to do."""


@dataclass(frozen=True)
class Health:
    """The request that shows whether the app can serve, and how long its first answer may take."""

    path: str
    status: int | None  # None: any below 500
    timeout_s: float

    def is_met(self, status: int) -> bool:
        """Whether an answer of this status is a healthy one."""
        return status < 500 if self.status is None else status == self.status


@dataclass(frozen=True)
class Worker:
    """A process of the app's entry: what runs, and which signal asks it to end after what it is doing."""

    command: list[str]
    stop_signal: str


@dataclass(frozen=True)
class Image:
    """The facts that playbooks/image.yml has recorded."""

    app: str
    release: str
    server_name: str
    workers: int | str  # a number, or "auto"
    longest_s: float  # from the first byte of a request to the last of its answer
    health: Health
    checks: list[list[str]]
    migrations: list[list[str]]
    migrate_on: str  # "each" start, or "once"
    processes: dict[str, Worker]
    root: Path = Path("/")

    @property
    def slot(self) -> str:
        """The name of the one slot: its release is never started twice at once here."""
        return f"{self.app}.{self.release}.1"

    @property
    def place(self) -> Path:
        """The release."""
        return self.root / "srv/apps" / self.app / "releases" / self.release

    @property
    def data(self) -> Path:
        """The app's own directory, which outlives containers where a volume is mounted there."""
        return self.root / "srv/apps" / self.app / "data"

    @property
    def run(self) -> Path:
        """Sockets and metric files."""
        return self.root / "run/uwsgi" / self.app

    @property
    def nginx(self) -> Path:
        """What NGINX is told at its start, and its pid."""
        return self.root / "run/nginx"

    @property
    def spool(self) -> Path:
        """Where NGINX keeps bodies that are larger than its buffers; /var/lib/nginx leads here."""
        return self.root / "tmp/nginx"

    @property
    def secrets(self) -> Path:
        """Where engines mount secrets."""
        return self.root / "run/secrets"


def read(path: Path = FACTS, root: Path = Path("/")) -> Image:
    """Read the facts of this image."""
    found = json.loads(path.read_text(encoding="utf-8"))
    health = found["health"]
    commands = found["commands"]
    return Image(
        app=found["app"],
        release=found["release"],
        server_name=found["server_name"],
        workers=found["workers"],
        longest_s=found["longest_s"],
        health=Health(
            health["path"] or "/", health["status"] or (200 if health["path"] else None), health["timeout_s"]
        ),
        checks=commands["check"],
        migrations=commands["migrate"],
        migrate_on=commands["migrate_on"],
        processes={each["name"]: Worker(each["command"], each["stop_signal"]) for each in found["processes"]},
        root=root,
    )
