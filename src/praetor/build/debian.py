"""Compiling for a Debian release in a clean tree of that release: no host needs a compiler, and no controller has to be like a host.

The tree is the lab's base with a compiler and what the entry names, in a chroot with own mounts and processes, as nobody.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import pathlib
import platform
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pip

from praetor.host.layout import ReleaseError

from .cache import Wheel, keep
from .indexes import Indexes
from .programs import last_lines
from .systems import SYSTEMS, runs_here

BASES = pathlib.Path("/var/cache/praetor-lab/base")  # role lab_host's
ALWAYS = ("build-essential", "pkgconf", "python3-dev", "ca-certificates")
_NOBODY = "65534"
Maker = Callable[[pathlib.Path], None]

# Mounts and processes of this shell's own namespaces: all of it ends with it.
_ENTER = """set -eu
tree=$1 work=$2 shift_to=$3; shift 3
mount --bind "$tree" "$tree"
mount -t proc proc "$tree/proc"
mount --rbind /dev "$tree/dev"
mkdir -p "$tree/build"
mount --bind "$work" "$tree/build"
for place in /etc/resolv.conf /etc/hosts; do
  [ -e "$tree$place" ] || : >"$tree$place"
  mount --bind "$place" "$tree$place"
done
while read -r place; do
  if [ -d "$place" ]; then mkdir -p "$tree$place"; else mkdir -p "$tree$(dirname "$place")"; : >>"$tree$place"; fi
  mount --bind -o ro "$place" "$tree$place"
done <"$work/places"
cd /
exec setpriv --no-new-privs chroot $shift_to "$tree" "$@"
"""
# Variables may hold credentials, and argument lists are public.
_START = "import json, os, sys; os.chdir('/build'); os.environ.clear(); os.environ.update(json.load(open('environment'))); os.execvp(sys.argv[1], sys.argv[1:])"
# Which packages hold the libraries that a wheel's modules are linked with.
_LINKED = """
import glob, os, re, subprocess, sys, zipfile
found = set()
for wheel in glob.glob("/build/out/*.whl"):
    zipfile.ZipFile(wheel).extractall("/build/unpacked")
for directory, _, names in os.walk("/build/unpacked"):
    for name in names:
        if ".so" in name:
            printed = subprocess.run(["ldd", os.path.join(directory, name)], capture_output=True, text=True).stdout
            found |= set(re.findall(r"=> (/\\S+)", printed))
for path in sorted(found):
    for name in {path, os.path.realpath(path), path.removeprefix("/usr"), os.path.realpath(path).removeprefix("/usr")}:
        printed = subprocess.run(["dpkg", "-S", name], capture_output=True, text=True).stdout
        if printed:
            print(printed.split(":")[0].split(",")[0])
            break
"""


@dataclass(frozen=True)
class Tree:
    """A Debian with a compiler."""

    suite: str
    place: pathlib.Path
    plain: frozenset[str]  # packages that a host has without being told

    def pip(
        self,
        command: Sequence[str],
        work: pathlib.Path,
        indexes: Indexes,
        failure: str,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Run the controller's pip with the tree's Python, in a directory that is /build inside.

        Raises:
            ReleaseError: it failed; with the last lines that it printed.
        """
        if not (work / "tools/pip").exists():
            shutil.copytree(pathlib.Path(pip.__file__).parent, work / "tools/pip")
        variables = {
            name: value for name, value in indexes.variables().items() if name.startswith(("PIP_", "SSL_", "SOURCE_"))
        }
        variables |= {
            name: value
            for name, value in os.environ.items()
            if name.lower() in {"http_proxy", "https_proxy", "no_proxy", "all_proxy"}
        }
        variables |= {"PYTHONPATH": "/build/tools", "HOME": "/build/home", "PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"}
        variables |= {"SOURCE_DATE_EPOCH": "315532800", "PIP_NO_CACHE_DIR": "1", **(environment or {})}
        done = self.run(["python3", "-m", "pip", *command], work, variables, indexes.places())
        if done.returncode != 0:
            raise ReleaseError(f"{failure} on Debian ({self.suite}):\n{last_lines(done.stderr or done.stdout, 25)}")

    def run(
        self,
        command: Sequence[str],
        work: pathlib.Path,
        variables: Mapping[str, str],
        places: Sequence[pathlib.Path] = (),
    ) -> subprocess.CompletedProcess[str]:
        """Run a program inside as nobody, in /build."""
        for name in ("out", "home", "unpacked", "tmp"):
            (work / name).mkdir(exist_ok=True)
        secret = work / "environment"
        secret.touch(mode=0o600)
        secret.write_text(json.dumps({**variables, "TMPDIR": "/build/tmp"}), encoding="utf-8")
        _as_root(["chown", "-R", f"{_NOBODY}:{_NOBODY}", str(work)])
        try:
            return _inside(self.place, work, ["python3", "-c", _START, *command], _NOBODY, places)
        finally:
            _as_root(["chown", "-R", f"{os.getuid()}:{os.getgid()}", str(work)])

    def linked(self, work: pathlib.Path) -> tuple[str, ...]:
        """Packages whose libraries the wheel in /build/out is linked with, and that no plain host has."""
        done = self.run(["python3", "-c", _LINKED], work, {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8"})
        return tuple(sorted(set(done.stdout.split()) - self.plain))


TreeMaker = Callable[[Tree, pathlib.Path], None]


def named(packages: Sequence[str]) -> str:
    """A short name for what is installed in a tree."""
    return hashlib.sha256("\n".join(sorted({*ALWAYS, *packages})).encode()).hexdigest()[:12]


def made(
    tag: str, packages: Sequence[str], cache: pathlib.Path, make: TreeMaker, reason: str, origin: str = ""
) -> Wheel:
    """Make a wheel in the tree of a Python's Debian release.

    Args:
        tag: of the Python.
        packages: Debian packages that compiling takes, besides the compiler.
        cache: keeps trees and wheels.
        make: makes it into /build/out.
        reason: why it is not made on the controller.
        origin: what the manifest says of where it comes from.

    Raises:
        ReleaseError: it cannot be made, or there is no tree.
    """
    tree = prepared(tag, packages, cache, reason)
    with tempfile.TemporaryDirectory(prefix="compile-") as directory:
        work = pathlib.Path(directory)
        (work / "out").mkdir()
        make(tree, work)
        built = next((work / "out").glob("*.whl"))
        needs = () if built.name.endswith("-none-any.whl") else tree.linked(work)
        return keep(built, cache, needs, origin)


def prepared(tag: str, packages: Sequence[str], cache: pathlib.Path, reason: str) -> Tree:
    """The tree of a Debian release with a compiler and these packages, made once.

    Raises:
        ReleaseError: this controller cannot have one, with what it lacks; or a package does not exist.
    """
    system = SYSTEMS[tag]
    suite = system.suite
    if not runs_here(tag):
        raise ReleaseError(
            f"{reason}\nIt is compiled in a clean Debian ({suite}) on {system.machine}, and this controller is {platform.machine()}: "
            "build it on a controller like the host, or put its wheel into your own index."
        )
    base = max(BASES.glob(f"{suite}-????????"), key=lambda path: path.stat().st_mtime, default=None)
    lacks = _lacks(base is not None, suite)
    if lacks:
        raise ReleaseError(
            f"{reason}\nIt is compiled in a clean Debian ({suite}), for which this controller lacks {lacks}."
        )
    assert base is not None  # noqa: S101  or it lacks one
    place = cache / "debian" / f"{suite}-{base.name.rpartition('-')[2]}-{named(packages)}"
    plain = frozenset(re.findall(r"^Package: (\S+)$", (base / "var/lib/dpkg/status").read_text(), re.MULTILINE))
    place.parent.mkdir(parents=True, exist_ok=True)
    with (place.parent / f".{place.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two apps, two runs: the second waits and finds it done
        if not place.exists():
            _make(base, place, sorted({*ALWAYS, *packages}))
    return Tree(suite, place, plain)


def _lacks(has_base: bool, suite: str) -> str:  # noqa: FBT001
    if os.getuid() != 0 and _as_root(["true"]).returncode != 0:
        return "root (or sudo without a password)"
    if shutil.which("unshare") is None or shutil.which("setpriv") is None:
        return "unshare and setpriv (Debian's util-linux)"
    if not has_base:
        return f"a tree of {suite} in {BASES}: `make lab` makes it (and `make lab-down` leaves it there)"
    probe = _as_root(["unshare", "--mount", "--pid", "--ipc", "--fork", "--mount-proc", "true"])
    return "" if probe.returncode == 0 else f"separate namespaces (unshare: {last_lines(probe.stderr, 1)})"


def _make(base: pathlib.Path, place: pathlib.Path, packages: Sequence[str]) -> None:
    partial = place.with_name(f".{place.name}.partial")
    _as_root(["rm", "-rf", "--one-file-system", str(partial)])
    _as_root(["cp", "-a", "--reflink=auto", str(base), str(partial)])
    environment = "export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 PATH=/usr/sbin:/usr/bin:/sbin:/bin"
    proxy = _proxy_of_apt()
    with tempfile.TemporaryDirectory(prefix="apt-") as directory:
        work = pathlib.Path(directory)
        script = (
            f'{environment}; apt-get {proxy} -q update && apt-get {proxy} -q -y --no-install-recommends install "$@"'
        )
        done = _inside(partial, work, ["sh", "-c", script, "sh", *packages], "0")
    if done.returncode != 0:
        _as_root(["rm", "-rf", "--one-file-system", str(partial)])
        absent = re.findall(r"Unable to locate package (\S+)", done.stderr + done.stdout)
        what = f"build_packages: Debian has no {', '.join(absent)}" if absent else "packages cannot be installed"
        raise ReleaseError(f"{what} ({place.name.partition('-')[0]}):\n{last_lines(done.stderr or done.stdout)}")
    _as_root(["mv", "-T", str(partial), str(place)])


def _proxy_of_apt() -> str:
    """How this machine's own apt reaches Debian."""
    found = []
    for name in ("Acquire::http::Proxy", "Acquire::https::Proxy"):
        done = subprocess.run(["apt-config", "shell", "proxy", name], capture_output=True, text=True, check=False)
        value = re.fullmatch(r"proxy='(\S+)'\n?", done.stdout)
        found += [f"-o {name}={value[1]}"] if value else []
    return " ".join(found)


def _inside(
    tree: pathlib.Path, work: pathlib.Path, command: Sequence[str], user: str, places: Sequence[pathlib.Path] = ()
) -> subprocess.CompletedProcess[str]:
    (work / "places").write_text("".join(f"{place}\n" for place in places), encoding="utf-8")
    as_user = f"--userspec={user}:{user}"
    enter = ["unshare", "--mount", "--pid", "--ipc", "--fork", "--kill-child", "sh", "-c", _ENTER, "enter"]
    return _as_root([*enter, str(tree.resolve()), str(work), as_user, *command])


def _as_root(command: Sequence[str]) -> subprocess.CompletedProcess[str]:
    words = [*([] if os.getuid() == 0 else ["sudo", "--non-interactive", "--"]), *command]
    return subprocess.run(words, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
