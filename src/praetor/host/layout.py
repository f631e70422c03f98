"""Where an app's files are on a host, and the few operations that change them.

Every change that matters is one rename(2): a reader sees the old or the new, a crash leaves one of the two.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import pwd
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from praetor.documents import Manifest

SUN_PATH_MAX = 107  # bytes in sockaddr_un.sun_path without the closing NUL, unix(7)
_SLOT = re.compile(r"^(?P<app>[a-z][a-z0-9_]*)\.(?P<release>.+)\.(?P<number>\d+)$")


class ReleaseError(Exception):
    """A message for the operator: what happened, what still serves, what to do."""


class BakeError(ReleaseError):
    """A release failed under traffic, so that it is marked bad on all hosts of the run."""


class Slot(NamedTuple):
    """A running uWSGI vassal: the release it serves, and the number of the app's start on this host, never reused.

    A release of processes and jobs alone has no vassal: what it is called and numbered by is all that there is of its slot.
    """

    app: str
    release: str
    number: int

    @property
    def name(self) -> str:
        """The vassal's name; never used twice, because a dying slot unlinks the sockets of its name."""
        return f"{self.app}.{self.release}.{self.number}"

    @classmethod
    def parse(cls, name: str) -> Slot | None:
        """Read a slot's name; None for a name that is no slot's."""
        found = _SLOT.match(name)
        return cls(found["app"], found["release"], int(found["number"])) if found else None


class Emperor(NamedTuple):
    """An Emperor that runs slots of an app: an instance of the unit, or with number 0 the one that all apps shared in earlier versions."""

    app: str
    number: int

    @property
    def unit(self) -> str:
        """Its name for systemd."""
        return f"uwsgi-emperor@{self.app}-{self.number}.service" if self.number else "uwsgi-emperor.service"


class Layout(NamedTuple):
    """The places of the host where apps live; equal for all apps."""

    apps: pathlib.Path = pathlib.Path("/srv/apps")
    vassals: pathlib.Path = pathlib.Path("/etc/uwsgi")
    run: pathlib.Path = pathlib.Path("/run/uwsgi")
    emperor: pathlib.Path = pathlib.Path("/opt/uwsgi")
    nginx: pathlib.Path = pathlib.Path("/etc/nginx")
    tls: pathlib.Path = pathlib.Path("/etc/praetor/tls/sites")
    units: pathlib.Path = pathlib.Path("/etc/systemd/system")
    egress: pathlib.Path = pathlib.Path("/etc/praetor/egress")
    firewall: pathlib.Path = pathlib.Path("/etc/nftables.conf")
    held: pathlib.Path = pathlib.Path("/run/praetor/held")


class AppHost:
    """One app on this host: its paths, its slots, its releases."""

    def __init__(self, app: str, layout: Layout | None = None) -> None:
        """Look at nothing yet; every property reads the host when asked."""
        self.app = app
        self.layout = layout or Layout()
        self.root = self.layout.apps / app
        self.releases_dir = self.root / "releases"
        self.data = self.root / "data"
        self.static = self.root / "static"
        self.access = self.root / "access"
        self.live_link = self.root / "live.sock"
        self.history = self.root / "history.jsonl"
        self.way_back = self.root / ".tmp.back"
        self.run_file = self.root / "run.json"
        self.bad_file = self.root / "bad.json"
        self.run_dir = self.layout.run / app
        self.wheels = self.layout.apps / ".wheels"
        self.slice = f"apps-{app}.slice"

    @property
    def uid(self) -> int:
        """The app's user, who owns its run directory."""
        return self.run_dir.stat().st_uid

    def release_dir(self, release: str) -> pathlib.Path:
        """The directory of a release."""
        return self.releases_dir / release

    def manifest(self, release: str) -> Manifest | None:
        """The manifest of a complete release; None when it is absent or half-staged (the manifest is written last)."""
        found: Manifest | None = read_json(self.release_dir(release) / "release.json")
        return found

    def serves(self, release: str) -> bool:
        """Whether a release answers requests; one without `wsgi` has processes and jobs alone."""
        manifest = self.manifest(release)
        return manifest is None or manifest["settings"]["wsgi"] is not None

    def stands(self, slot: Slot) -> bool:
        """Whether a slot is there to be made live: an Emperor runs it, or its release needs none and is complete."""
        return slot in self.slots() if self.serves(slot.release) else self.manifest(slot.release) is not None

    def is_before_fastcgi(self, release: str) -> bool:
        """Whether slots of a release speak the uwsgi protocol, as they did before FastCGI."""
        return bool(re.search(r"^socket = ", read_text(self.release_dir(release) / "vassal.ini") or "", re.MULTILINE))

    def releases(self) -> list[str]:
        """The complete releases on this host, the one that was staged last first."""
        if not self.releases_dir.is_dir():
            return []
        found = []
        for path in self.releases_dir.glob("*/release.json"):
            # A survey looks without the lock: another run may prune meanwhile.
            with contextlib.suppress(FileNotFoundError):
                found.append((path.stat().st_mtime_ns, path.parent.name))
        return [name for _, name in sorted(found, reverse=True)]

    def emperors(self) -> list[Emperor]:
        """The Emperors that run slots of the app or are about to, oldest first."""
        shared = [Emperor(self.app, 0)] if self.vassals(Emperor(self.app, 0)).is_dir() else []
        own = self.layout.vassals / self.app
        numbers = sorted(int(path.name) for path in own.iterdir() if path.name.isdecimal()) if own.is_dir() else []
        return shared + [Emperor(self.app, number) for number in numbers]

    def vassals(self, emperor: Emperor) -> pathlib.Path:
        """The directory that an Emperor watches; root's, and the app may read it."""
        return (
            self.layout.vassals / self.app / str(emperor.number) if emperor.number else self.layout.vassals / "vassals"
        )

    def emperor_stats(self, emperor: Emperor) -> pathlib.Path:
        """The socket of an Emperor's stats server."""
        shared = self.layout.run / "emperor.stats"
        return self.run_dir / f"emperor-{emperor.number}.stats" if emperor.number else shared

    def drop_in(self, emperor: Emperor) -> pathlib.Path:
        """The file that makes an instance of the Emperor's unit this app's."""
        return self.layout.units / f"{emperor.unit}.d" / "app.conf"

    def vassal(self, slot: Slot, emperor: Emperor) -> pathlib.Path:
        """The file whose presence tells an Emperor to run the slot."""
        return self.vassals(emperor) / f"{slot.name}.ini"

    def emperor_of(self, slot: Slot) -> Emperor | None:
        """The Emperor that is told to run the slot; None when none is."""
        name = f"{slot.name}.ini"
        found = (emperor for emperor in self.emperors() if any(self.vassals(emperor).glob(name)))
        return next(found, None)

    def socket(self, slot: Slot) -> pathlib.Path:
        """The slot's private socket, which speaks FastCGI; the uwsgi protocol if its release is from before that."""
        return self.run_dir / f"{slot.name}.sock"

    def target(self, slot: Slot) -> pathlib.Path:
        """What `live.sock` points to when a slot is live: its socket or, of processes and jobs alone, a name at which there is nothing."""
        return self.socket(slot) if self.serves(slot.release) else self.run_dir / f"{slot.name}.units"

    def stats(self, slot: Slot) -> pathlib.Path:
        """The socket of the slot's stats server."""
        return self.run_dir / f"{slot.name}.stats"

    def metrics(self, slot: Slot) -> pathlib.Path:
        """The slot's directory of Prometheus multiprocess files."""
        return self.run_dir / f"{slot.name}.metrics"

    def state(self, slot: Slot) -> pathlib.Path:
        """The slot's directory of what its workers and its watch note about themselves."""
        return self.run_dir / f"{slot.name}.state"

    def slots(self) -> list[Slot]:
        """The slots that the app's Emperors are told to run, oldest first."""
        files = [path for emperor in self.emperors() for path in self.vassals(emperor).glob(f"{self.app}.*.ini")]
        found = [Slot.parse(path.stem) for path in files]
        return sorted((slot for slot in found if slot and slot.app == self.app), key=lambda slot: slot.number)

    def live(self) -> Slot | None:
        """The slot that `live.sock` names; None before the first flip."""
        try:
            target = self.live_link.readlink()
        except FileNotFoundError:
            return None
        return Slot.parse(target.stem)

    def live_since(self) -> float | None:
        """When the live slot was flipped to, in seconds since the epoch: the age of the link is the flip."""
        try:
            return self.live_link.lstat().st_mtime
        except FileNotFoundError:
            return None

    def next_slot(self, release: str) -> Slot:
        """A slot for the release, under a name that was never used before: the counter only grows."""
        counts = [slot.number for slot in self.slots()]
        counts += [slot.number for slot in self._named_in_run_dir()]
        return Slot(self.app, release, self._count("last", counts))

    def next_emperor(self) -> Emperor:
        """An Emperor with a number that was never used: one that ends may still be there."""
        return Emperor(self.app, self._count("emperor", [emperor.number for emperor in self.emperors()]))

    def _count(self, what: str, used: list[int]) -> int:
        counters = read_json(self.root / "slots.json") or {}
        counters[what] = max([*used, int(counters.get(what, 0))], default=0) + 1
        write_atomically(self.root / "slots.json", json.dumps(counters) + "\n", 0o644)
        return int(counters[what])

    def flip(self, slot: Slot) -> None:
        """From this rename on, every new request goes to the slot: NGINX resolves the link at each connect(2).

        The link to what was live is made first: going back is then a rename too, which a disk that is full by then cannot refuse.
        """
        live = self.live()
        if live and live != slot:
            link_atomically(self.target(live), self.way_back)
        link_atomically(self.target(slot), self.live_link)

    def flip_back(self, slot: Slot) -> None:
        """Send new requests to the slot that was live before the flip."""
        if self.way_back.is_symlink() and self.way_back.readlink() == self.target(slot):
            self.way_back.rename(self.live_link)
            sync_directory(self.root)
        else:
            link_atomically(self.target(slot), self.live_link)

    def _named_in_run_dir(self) -> Iterator[Slot]:
        if not self.run_dir.is_dir():
            return
        for path in self.run_dir.iterdir():
            slot = Slot.parse(path.stem)
            if slot and slot.app == self.app:
                yield slot

    def leftovers(self) -> list[pathlib.Path]:
        """What interrupted runs left behind and no slot or release needs: half-staged releases, temporary names, dead slots' files."""
        slots = {slot.name for slot in self.slots()}
        found = [path for path in self.root.glob(".tmp.*") if path.is_symlink() or path.exists()]
        for emperor in self.emperors():
            found += self.vassals(emperor).glob(f".tmp.{self.app}.*")
        if self.releases_dir.is_dir():
            found += [path for path in self.releases_dir.iterdir() if not (path / "release.json").is_file()]
        found += self.unused_static()
        complete = {path.parent.name for path in self.releases_dir.glob("*/release.json")}
        found += [path for path in self.access.glob("*") if path.name not in complete]
        if self.run_dir.is_dir():
            found += [path for path in self.run_dir.iterdir() if path.stem not in slots and Slot.parse(path.stem)]
        return sorted(found)

    def unused_static(self) -> list[pathlib.Path]:
        """Static files of no release, and not of the one before the last flip: pages that it made may be open in browsers."""
        if not self.static.is_dir():
            return []
        places = list(self.static.iterdir())
        linked = {path.readlink().name for path in places if path.is_symlink() and not path.name.startswith(".tmp.")}
        complete = {path.parent.name for path in self.releases_dir.glob("*/release.json")}
        kept = {*linked, *complete, "live", "before"}
        return [path for path in places if path.name not in kept]


def remove(path: pathlib.Path) -> None:
    """Remove a file, link, socket or whole directory; absent is fine."""
    if path.is_dir() and not path.is_symlink():
        import shutil  # noqa: PLC0415  every call would pay for it

        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def user_of(app: str) -> pwd.struct_passwd:
    """The system user of an app.

    Raises:
        ReleaseError: the user does not exist, so the host was not provisioned for the app.
    """
    try:
        return pwd.getpwnam(app)
    except KeyError:
        message = f"this host has no user '{app}': it was not provisioned for this app. Run playbooks/deploy.yml (or provision.yml) first."
        raise ReleaseError(message) from None


def read_json(path: pathlib.Path) -> Any:
    """The content of a JSON file; None when it is absent or not JSON (a crash may have cut it short)."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None


def read_text(path: pathlib.Path) -> str | None:
    """The content of a file; None when it is absent."""
    try:
        return path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return None


def write_atomically(path: pathlib.Path, content: str | bytes, mode: int, uid: int = 0, gid: int = 0) -> None:
    """Write a file so that it is the old or the new one at every instant, also after a power cut."""
    temporary = path.with_name(f".tmp.{path.name}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            if os.geteuid() == 0:
                os.fchown(file.fileno(), uid, gid)
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        temporary.rename(path)
    except OSError:
        # On a full disk, the half of a file that fitted takes the room that others need.
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def link_atomically(target: pathlib.Path, link: pathlib.Path) -> None:
    """Point a symbolic link somewhere else with one rename(2)."""
    # The Emperor starts whatever ends in .ini, hidden names too: the temporary one must not.
    temporary = link.with_name(f".tmp.{link.name}.new")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target)
    temporary.rename(link)
    sync_directory(link.parent)


def sync_directory(path: pathlib.Path) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
