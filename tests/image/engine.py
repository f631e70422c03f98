"""A docker daemon for the tests alone: own socket, own data, own bridge. It leaves the machine's firewall, forwarding and other daemons as they are.

What is slow to make is kept where the lab keeps its base trees: Debian's base images, by what they are made from, and the daemon's layers.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from project import ROOT

LAB = os.environ.get("PRAETOR_LAB", "praetor")
NUMBER = os.environ.get("PRAETOR_LAB_NET", "0")
NUMBERS = range(100)  # of labs; behind the networks of Molecule's machines there is one for each


def network(number: int) -> str:
    """Return the first three octets of the daemon's addresses next to the lab of a number."""
    return f"198.19.{len(NUMBERS) + number}"


NETWORK = network(int(NUMBER) if NUMBER.isascii() and NUMBER.isdecimal() else 0)
KEPT = Path("/var/cache/praetor-lab")
IMAGES = KEPT / f"images-{LAB}"
STATE = Path("/run", f"praetor-image-{LAB}")
BRIDGE = f"im-{LAB}"
SOCKET = STATE / "docker.sock"
# Debian's own client: one that is elsewhere in PATH may be of another kind, and build with other tools.
ENVIRONMENT = {
    **os.environ,
    "DOCKER_HOST": f"unix://{SOCKET}",
    "PATH": f"/usr/sbin:/usr/bin:/sbin:/bin:{os.environ['PATH']}",
    "DOCKER_CONFIG": str(STATE / "config"),
}
AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")
# Nothing of this machine but the authorities that it trusts: whoever answers for the package indexes here is believed inside too.
BASE = """FROM scratch
ADD base.tar /
COPY authorities.pem /usr/local/share/authorities.pem
ENV SSL_CERT_FILE=/usr/local/share/authorities.pem
CMD ["/bin/sh"]
"""
# Debian 12's pip trusts what it brings itself, and is told.
ADDED = {"bookworm": "ENV PIP_CERT=/usr/local/share/authorities.pem\n"}
LEFT_OUT = [
    "/usr/share/man/*",
    "/usr/share/doc/*",
    "/usr/share/locale/*",
    "/usr/share/info/*",
]  # as Debian's slim images


class NoEngineError(Exception):
    """No docker daemon can run on this machine; the message says why."""


def docker(
    *words: str, check: bool = True, stdin: str = "", timeout_s: float = 600
) -> subprocess.CompletedProcess[str]:
    """Run Debian's docker client against the daemon of the tests."""
    command = ["docker", *words]
    done = subprocess.run(
        command, env=ENVIRONMENT, cwd=ROOT, input=stdin, capture_output=True, text=True, check=False, timeout=timeout_s
    )
    assert done.returncode == 0 or not check, f"{' '.join(command)}:\n{done.stdout[-6000:]}\n{done.stderr[-6000:]}"
    return done


@contextlib.contextmanager
def running() -> Iterator[None]:
    """A daemon that runs until the end of the block; its layers stay for the next time.

    Raises:
        NoEngineError: it cannot run here.
    """
    missing = [
        name for name in ("dockerd", "docker", "ip", "mmdebstrap") if not shutil.which(name, path=ENVIRONMENT["PATH"])
    ]
    if missing:
        raise NoEngineError(f"{', '.join(missing)}: not installed")
    if os.geteuid() != 0:
        raise NoEngineError("a daemon and its bridge need root")
    if not (NUMBER.isascii() and NUMBER.isdecimal() and int(NUMBER) in NUMBERS):
        raise NoEngineError(f"PRAETOR_LAB_NET={NUMBER!r}: expected a whole number from 0 to {NUMBERS[-1]}")
    _forget()
    (STATE / "config").mkdir(parents=True)
    _remove_bridges()  # of a run that was killed
    if taken := _bridges(lambda name, held: held and name != BRIDGE):
        raise NoEngineError(f"{', '.join(taken)} has addresses of {NETWORK}.0/24: set another PRAETOR_LAB_NET")
    daemon = None
    try:
        _ip("link", "add", BRIDGE, "type", "bridge")
        _ip("address", "add", f"{NETWORK}.1/25", "dev", BRIDGE)
        _ip("link", "set", BRIDGE, "up")
        # The addresses of the last time; the next may be told others.
        shutil.rmtree(IMAGES / "network", ignore_errors=True)
        daemon = _start()
        for kind in ("container", "volume"):  # of a run that was killed
            docker(kind, "prune", "--force")
        # What builds of earlier days have left: each is most of a gigabyte.
        docker("image", "prune", "--force", "--filter", "until=72h")
        yield
    finally:
        if daemon:
            daemon.send_signal(signal.SIGTERM)
            try:
                daemon.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(daemon.pid, signal.SIGKILL)
                daemon.wait()
        _remove_bridges()
        _forget()


def _start() -> subprocess.Popen[bytes]:
    log = STATE / "log"
    command = ["dockerd", "--host", f"unix://{SOCKET}", "--data-root", str(IMAGES)]
    command += ["--exec-root", str(STATE / "exec"), "--pidfile", str(STATE / "pid"), "--bridge", BRIDGE]
    # Networks that tests make get the upper half.
    command += ["--default-address-pool", f"base={NETWORK}.128/26,size=28"]
    command += [
        "--iptables=false",
        "--ip6tables=false",
        "--ip-forward=false",
        "--ip-masq=false",
        "--userland-proxy=true",
    ]
    with log.open("wb") as output:
        daemon = subprocess.Popen(
            command, env=ENVIRONMENT, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
    for _ in range(1800):
        if daemon.poll() is not None:
            break
        if docker("info", check=False).returncode == 0:
            return daemon
        time.sleep(0.1)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(daemon.pid, signal.SIGKILL)
    daemon.wait()
    said = log.read_text(errors="replace").strip().splitlines()[-5:]
    raise NoEngineError("dockerd does not run here; the last that it said:\n  " + "\n  ".join(said))


def _forget() -> None:
    """Remove the daemon's state. It leaves its data mounted on itself, and the name of the host's network."""
    for place in reversed(_mounts()):
        subprocess.run(["umount", place], env=ENVIRONMENT, capture_output=True, check=False)
    shutil.rmtree(STATE, ignore_errors=True)


def _mounts() -> list[str]:
    """What is mounted in the daemon's places, in the order in which it was."""
    places = [line.split()[1] for line in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()]
    return [place for place in places if {IMAGES, STATE} & {Path(place), *Path(place).parents}]


def _bridges(wanted: Callable[[str, bool], object]) -> list[str]:
    """The bridges of this machine that a function of the name, and of whether it has an address of the daemon, wants."""
    found = []
    for link in json.loads(_ip("-json", "-4", "address", "show", "type", "bridge") or "[]"):
        # What it leaves out is an empty entry.
        name, held = link.get("ifname", ""), [each["local"] for each in link.get("addr_info", [])]
        if name and wanted(name, any(each.startswith(f"{NETWORK}.") for each in held)):
            found.append(name)
    return found


def _remove_bridges() -> None:
    """Remove the daemon's bridge, and those that it made for networks of tests, which have names of docker's kind."""
    for name in _bridges(lambda name, held: name == BRIDGE or (held and re.fullmatch("br-[0-9a-f]{12}", name))):
        _ip("link", "del", name)


def left() -> list[str]:
    """What a daemon that has ended has left on this machine, but for its kept data."""
    running = [
        f"process {place.parent.name}"
        for place in Path("/proc").glob("[0-9]*/cmdline")
        if str(STATE).encode() in _read(place)
    ]
    return [
        *_mounts(),
        *_bridges(lambda name, held: name == BRIDGE or held),
        *running,
        *([str(STATE)] if STATE.exists() else []),
    ]


def _read(place: Path) -> bytes:
    try:
        return place.read_bytes()
    except OSError:  # it has ended meanwhile
        return b""


def _ip(*words: str) -> str:
    done = subprocess.run(["ip", *words], env=ENVIRONMENT, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise NoEngineError(f"ip {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout


def base(suite: str) -> str:
    """Make the image that is called debian:<suite>-slim, from Debian's packages as this machine reaches them; return its name."""
    name = f"debian:{suite}-slim"
    found = _sources(suite)
    authorities = AUTHORITIES.read_bytes() if AUTHORITIES.is_file() else b""
    tree = hashlib.sha256(json.dumps([LEFT_OUT, found], sort_keys=True).encode()).hexdigest()[:8]
    kept = KEPT / f"image-base-{suite}-{tree}.tar"
    recipe = BASE + ADDED.get(suite, "")
    digest = hashlib.sha256(f"{tree} {recipe}".encode() + authorities).hexdigest()[:8]
    tagged = docker(
        "image", "inspect", "--format", '{{index .Config.Labels "recipe"}}', name, check=False
    ).stdout.strip()
    if tagged == digest:
        return name
    if not kept.is_file():
        _bootstrap(suite, kept, found)
    with tempfile.TemporaryDirectory(prefix="base-") as place:
        shutil.copy(kept, f"{place}/base.tar")
        Path(place, "authorities.pem").write_bytes(authorities)
        Path(place, "Dockerfile").write_text(f"{recipe}LABEL recipe={digest}\n", encoding="utf-8")
        docker("build", "--quiet", "--tag", name, place)
    return name


def _sources(suite: str) -> dict[str, list[str]]:
    """What the lab finds out about this machine's apt."""
    asked = {"packages": [], "suites": [suite], "lab_dir": "/nonexistent", "mirror": ""}
    module = ROOT / "plugins" / "modules" / "lab_controller.py"
    done = subprocess.run(
        [sys.executable, str(module)],
        input=json.dumps({"ANSIBLE_MODULE_ARGS": asked}),
        capture_output=True,
        text=True,
        check=False,
    )
    answer = json.loads(done.stdout or "{}")
    if "sources" not in answer:
        raise NoEngineError(f"no source for a base image: {answer.get('msg') or done.stderr[-500:]}")
    return {"sources": answer["sources"][suite], "options": answer["apt_options"]}


def _bootstrap(suite: str, place: Path, found: dict[str, list[str]]) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    partial = place.with_suffix(".partial")
    command = ["mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", "--format=tar"]
    command += [f"--aptopt={option}" for option in found["options"]]
    command += [f"--dpkgopt=path-exclude={pattern}" for pattern in LEFT_OUT]
    command += ["--dpkgopt=path-include=/usr/share/doc/*/copyright"]
    command += ['--customize-hook=rm -f "$1"/etc/resolv.conf "$1"/etc/hostname']
    done = subprocess.run(
        [*command, suite, str(partial), *found["sources"]], env=ENVIRONMENT, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        partial.unlink(missing_ok=True)
        raise NoEngineError(f"mmdebstrap could not make a base image of {suite}:\n{done.stderr[-1500:]}")
    partial.rename(place)
