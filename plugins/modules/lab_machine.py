"""Ansible module: one throw-away Debian machine under systemd-nspawn, up or down."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shlex
import shutil
import subprocess
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.lab_process import end, leave_control_group, recorded, spawn

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

DOCUMENTATION = """
module: lab_machine
short_description: One throw-away Debian machine under systemd-nspawn
description:
  - The machine's tree is an overlay of a cached base tree, mounted in namespaces of the machine's first process.
    When that process is gone, however it went, the kernel has taken every process and mount of the machine with it.
  - A machine that was killed or powered off comes back with its disk as it was.
    One whose description changed starts from the base tree again; the names of other machines are no part of it.
  - A machine whose tree was kept (C(kept)) after the same recipe had run on it starts from that tree.
options:
  name: {description: Name of the machine inside the lab and its host name, type: str, required: true}
  state:
    description:
      - C(up) boots it and waits until its user can log in. C(down) ends it and deletes its disk.
      - C(kept) keeps the tree of one that is up for later ones of the same recipe. It is off while its tree is copied.
    type: str
    choices: [up, down, kept]
    default: up
  lab: {description: Name of the lab, type: str, required: true}
  lab_dir: {description: State directory of the lab, type: path, required: true}
  base: {description: Base tree, type: path}
  bridge: {description: Bridge to plug the machine into, type: str}
  address: {description: IPv4 address with prefix length, type: str}
  hosts: {description: Names and addresses for /etc/hosts, type: dict}
  proxy: {description: URL of the proxy for the package manager, type: str}
  user: {description: User that logs in; part of the base tree, type: str}
  kept_dir: {description: Folder of the trees that were kept, type: path}
  recipe: {description: Digest of what provisions the machine; empty where its tree is not to be kept, type: str, default: ''}
  timeout_s: {description: Longest wait for a login, type: int, default: 60}
"""

# systemd-nspawn leaves a reboot to its caller when it has --keep-unit: 133 means "start me again".
SCRIPT = """
mount -t tmpfs tmpfs /run || exit # what systemd-nspawn leaves there goes with it
mount -t overlay overlay -o "lowerdir=$1,upperdir=$2/upper,workdir=$2/work" "$2/root" || exit
root=$2/root
shift 2
export SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1
while systemd-nspawn --quiet --register=no --keep-unit --boot --directory="$root" "$@"; [ $? -eq 133 ]; do :; done
"""
# How long a machine that runs may leave a login unanswered (it may be rebooting) before it is power-cycled.
PATIENCE_S = 20
# How long the services of a machine may take to stop.
SHUTDOWN_S = 60
# How many trees of one machine are kept: one for each scenario that it is in.
KEEP = 4
# What a machine that is or was up is described by.
NEEDED = ("base", "bridge", "address", "proxy", "user", "kept_dir")
# Status of a login that worked on a machine that cannot reach the package proxy.
NO_PROXY = 77


class Machine:
    """Paths and steps of one machine."""

    def __init__(self, params: Mapping[str, Any]) -> None:
        """Take the module's parameters."""
        self.params = params
        self.name: str = params["name"]
        self.full_name = f"{params['lab']}-{self.name}"
        self.lab_dir = Path(params["lab_dir"])
        self.dir = self.lab_dir / "machines" / self.name
        self.record = self.dir / "process.json"
        self.console = self.dir / "console.log"
        self.control_group = f"praetor-lab/{self.full_name}"

    def describe(self) -> dict[str, Any]:
        """Return everything that the disk of this machine was made from."""
        key = (self.lab_dir / "ssh/id_ed25519.pub").read_text().strip()
        wanted = {name: self.params[name] for name in ("base", "bridge", "address", "proxy", "user")}
        return {**wanted, "authorised_key": key, "host_key": self.host_key().read_text().strip()}

    def host_key(self) -> Path:
        """Return the public host key; the pair is made once and outlives the disk, so known_hosts stays true."""
        private = self.lab_dir / "ssh" / f"{self.name}.host_key"
        public = private.with_suffix(".host_key.pub")
        if not public.exists():
            private.unlink(missing_ok=True)
            command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", self.full_name, "-f", str(private)]
            subprocess.run(command, check=True, stdin=subprocess.DEVNULL)
        address = self.params["address"].partition("/")[0]
        known = self.known_hosts()
        known.write_text(f"{address} {public.read_text()}")
        known.chmod(0o644)
        return public

    def known_hosts(self) -> Path:
        """Return the file with this machine's host key in the form that ssh reads; ssh finds it by the address (%h)."""
        address = self.params["address"] or self.address_before()
        return self.lab_dir / "ssh" / f"{address.partition('/')[0]}.known_hosts"

    def address_before(self) -> str:
        """Return the address of the disk that is there; nothing where there is none."""
        return str((self.prepared_as() or {}).get("address", ""))

    def kept(self) -> Path | None:
        """Return the place of the tree that this machine has after its recipe; None where none is to be kept."""
        if not self.params["recipe"]:
            return None
        told = json.dumps([self.full_name, self.params["recipe"], self.describe_disk()], sort_keys=True)
        digest = hashlib.sha256(told.encode()).hexdigest()[:12]
        return Path(self.params["kept_dir"]) / f"{self.full_name}-{digest}"

    def describe_disk(self) -> list[str]:
        """Return the parts of the description that are in every file that a recipe writes: no keys, which are written at each start."""
        return [self.params[name] for name in ("base", "address", "proxy", "user")]

    def prepared_as(self) -> dict[str, Any] | None:
        """Return the description of the disk that is there, None where there is none or only a half-made one."""
        try:
            found: dict[str, Any] = json.loads((self.dir / "machine.json").read_text())
        except (OSError, ValueError):
            return None
        return found

    def prepare(self, description: Mapping[str, Any]) -> None:
        """Make an empty disk on top of the base tree, or of a kept one, and write what makes it this machine."""
        self.discard()
        for folder in ("upper", "work", "root"):
            (self.dir / folder).mkdir(parents=True)
        kept = self.kept()
        layers = [str(kept)] if kept is not None and kept.exists() else []
        layers.append(description["base"])
        shutil.copystat(layers[0], self.dir / "upper")
        pair = self.host_key().with_suffix("")
        apt = f'Acquire::http::Proxy "{description["proxy"]}";\nAcquire::Languages "none";\n'
        files = {
            "etc/hostname": (f"{self.name}\n", 0o644),
            "etc/resolv.conf": ("# Hosts of a lab have no name server: names are in /etc/hosts.\n", 0o644),
            "etc/machine-id": (f"{uuid.uuid4().hex}\n", 0o444),
            "etc/systemd/network/10-lab.network": (
                f"[Match]\nName=host0\n\n[Network]\nAddress={description['address']}\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n",
                0o644,
            ),
            "etc/apt/apt.conf.d/90lab-proxy": (apt, 0o644),
            "etc/ssh/ssh_host_ed25519_key": (pair.read_text(), 0o600),
            "etc/ssh/ssh_host_ed25519_key.pub": (self.host_key().read_text(), 0o644),
            f"home/{description['user']}/.ssh/authorized_keys": (f"{description['authorised_key']}\n", 0o600),
        }
        for path, (content, mode) in files.items():
            self.place([Path(layer) for layer in layers], path, content, mode)
        (self.dir / "layers.json").write_text(json.dumps(layers) + "\n")
        fresh = self.dir / "machine.json.new"
        fresh.write_text(json.dumps(description, indent=2) + "\n")
        fresh.rename(self.dir / "machine.json")

    def layers(self) -> list[str]:
        """Return the trees below this machine's disk, the topmost first."""
        found: list[str] = json.loads((self.dir / "layers.json").read_text())
        return found

    def name_others(self) -> bool:
        """Write the names of all machines into /etc/hosts, whether this one runs or not; say whether that changed anything."""
        names = "".join(f"{address} {name}\n" for name, address in sorted(self.params["hosts"].items()))
        text = f"127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n{names}"
        pid = recorded(self.record)
        # Under a machine that runs, only its own mount may be written to.
        root = self.dir / "upper" if pid is None else Path(f"/proc/{pid}/root{self.dir}/root")
        hosts = root / "etc/hosts"
        if hosts.exists() and hosts.read_text() == text:
            return False
        hosts.write_text(text)
        hosts.chmod(0o644)
        return True

    def place(self, layers: Sequence[Path], path: str, content: str, mode: int) -> None:
        """Write one file into the overlay; its folders keep the owner and mode that they have in the trees below."""
        upper, walked = self.dir / "upper", Path()
        for part in Path(path).parts[:-1]:
            parent = upper.stat()
            upper, walked = upper / part, walked / part
            if not upper.exists():
                lower = next((layer / walked for layer in layers if (layer / walked).exists()), None)
                like = lower.stat() if lower else parent
                upper.mkdir()
                upper.chmod(like.st_mode & 0o7777 if lower else 0o700)
                os.chown(upper, like.st_uid, like.st_gid)
        target = upper / Path(path).name
        target.write_text(content)
        target.chmod(mode)
        owner = upper.stat()
        os.chown(target, owner.st_uid, owner.st_gid)

    def boot(self, description: Mapping[str, Any]) -> None:
        """Start the machine's processes."""
        leave_control_group(self.control_group)
        argv = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", SCRIPT]
        argv += [f"praetor-lab {self.full_name}", ":".join(self.layers()), str(self.dir)]
        argv += [f"--machine={self.full_name}", f"--hostname={self.name}", f"--network-bridge={description['bridge']}"]
        argv += ["--resolv-conf=off", "--timezone=off"]
        spawn(argv, self.record, self.console, self.control_group)

    def plug(self) -> dict[str, Any] | None:
        """Return the end of the machine's network cable that is on this machine, as the ip command describes it."""
        wanted = f"vb-{self.full_name}"  # systemd-nspawn's name; one that is too long is kept as an alternative name
        links = json.loads(subprocess.run(["ip", "-json", "link"], check=True, capture_output=True, text=True).stdout)
        for link in links:
            if wanted in {link["ifname"], *link.get("altnames", [])}:
                return dict(link)
        return None

    def replug(self, bridge: str) -> bool:
        """Connect a running machine to the bridge again if the bridge was removed under it. Say whether that was so."""
        plug = self.plug()
        if plug is None or plug.get("master") == bridge:
            return False
        subprocess.run(["ip", "link", "set", plug["ifname"], "master", bridge, "up"], check=True, capture_output=True)
        return True

    def power_off(self) -> None:
        """End the machine's processes at once, and wait until nothing of it is left but its disk."""
        end(self.record)
        leave_control_group(self.control_group)
        deadline = time.monotonic() + 10
        while (plug := self.plug()) is not None and time.monotonic() < deadline:
            # The kernel takes network namespaces down in its own time; a new machine needs the name now.
            subprocess.run(["ip", "link", "delete", plug["ifname"]], check=False, capture_output=True)
            time.sleep(0.05)

    def shut_down(self) -> None:
        """Let the machine stop its services and write what it has in memory; at once where it does not within a while."""
        self.ssh("systemctl", "poweroff")
        deadline = time.monotonic() + SHUTDOWN_S
        while recorded(self.record) is not None and time.monotonic() < deadline:
            time.sleep(0.1)
        self.power_off()

    def keep(self, place: Path) -> None:
        """Copy the disk of this machine, which is off, to the trees that are kept, in the place of an earlier recipe's."""
        place.parent.mkdir(parents=True, exist_ok=True)
        partial = place.with_name(f"{place.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        # With the marks by which an overlay says which files of the tree below are gone.
        subprocess.run(["cp", "--archive", str(self.dir / "upper"), str(partial)], check=True, capture_output=True)
        os.utime(partial)
        partial.rename(place)
        earlier = sorted(
            place.parent.glob(f"{self.full_name}-{'[0-9a-f]' * 12}"), key=lambda path: path.stat().st_mtime
        )
        for old in earlier[:-KEEP]:  # of this machine, which is not on any of them: they are of other recipes
            shutil.rmtree(old)

    def discard(self) -> None:
        """Delete the disk, the description first: what is half deleted must not be taken for whole."""
        (self.dir / "machine.json").unlink(missing_ok=True)
        (self.dir / "layers.json").unlink(missing_ok=True)
        for folder in ("upper", "work", "root"):
            shutil.rmtree(self.dir / folder, ignore_errors=True)
            if (self.dir / folder).exists():
                shutil.rmtree(self.dir / folder)
        self.console.unlink(missing_ok=True)

    def ssh(self, *sudo: str) -> subprocess.CompletedProcess[str]:
        """Run a command inside as root; raises TimeoutExpired."""
        address = self.params["address"].partition("/")[0]
        options = [
            "BatchMode=yes",
            "ConnectTimeout=2",
            "ControlPath=none",
            "IdentitiesOnly=yes",
            "StrictHostKeyChecking=yes",
        ]
        options += [f"UserKnownHostsFile={self.known_hosts()}", "GlobalKnownHostsFile=/dev/null"]
        command = ["ssh", "-F", "none", "-n", "-i", str(self.lab_dir / "ssh/id_ed25519")]
        command += [word for option in options for word in ("-o", option)]
        command += [f"{self.params['user']}@{address}", "sudo", "-n", *sudo]
        return subprocess.run(command, check=False, capture_output=True, text=True, timeout=15)

    def login(self) -> str:
        """Try once to log in, become root and reach the package proxy; return what is wrong, nothing when all worked."""
        proxy = urlsplit(self.params["proxy"])
        reach = shlex.quote(f"</dev/tcp/{proxy.hostname}/{proxy.port} || exit {NO_PROXY}")
        try:
            answer = self.ssh("timeout", "5", "bash", "-c", reach)
        except subprocess.TimeoutExpired:
            return "no answer within 15 s"
        if answer.returncode in {NO_PROXY, 124}:  # 124: timeout(1), as where a firewall drops packets
            bridge, proxy = self.params["bridge"], self.params["proxy"]
            return f"it cannot reach {proxy}; does a firewall on this machine keep {bridge} from it?"
        return "" if answer.returncode == 0 else answer.stderr.strip() or f"status {answer.returncode}"

    def await_login(self, timeout_s: float) -> str:
        """Wait until a login works; return the last complaint when it never did."""
        deadline = time.monotonic() + timeout_s
        while True:
            complaint = self.login()
            if not complaint or time.monotonic() > deadline:
                return complaint
            if recorded(self.record) is None:
                return f"the machine has ended; {complaint}"
            time.sleep(0.3)

    def last_words(self) -> str:
        """Return the end of the machine's console."""
        try:
            lines = self.console.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return ""
        return "\n".join(line for line in lines[-20:] if line.strip())


def up(machine: Machine, *, check: bool) -> dict[str, Any]:
    """Bring the machine up and return the module's result."""
    description = machine.describe()
    found = machine.prepared_as()
    running = recorded(machine.record) is not None
    if found == description and running and not check:
        replugged = machine.replug(description["bridge"])
        if not machine.await_login(PATIENCE_S):
            named = machine.name_others()
            return {"changed": replugged or named, "did": "plugged into the bridge again" if replugged else "was up"}
    if check:
        return {"changed": found != description or not running}
    machine.power_off()
    did = "booted again with its disk as it was"
    if found != description:
        machine.prepare(description)
        did = "started from a kept tree" if len(machine.layers()) > 1 else "made and booted"
    machine.name_others()
    started = time.monotonic()
    machine.boot(description)
    complaint = machine.await_login(machine.params["timeout_s"])
    if complaint:
        msg = f"{machine.full_name} is not usable by {machine.params['user']}: {complaint}"
        return {"failed": True, "msg": msg, "console": machine.last_words(), "console_file": str(machine.console)}
    return {"changed": True, "did": did, "took_s": round(time.monotonic() - started, 1)}


def kept(machine: Machine, *, check: bool) -> dict[str, Any]:
    """Keep the machine's tree, unless one of the same recipe was kept before, and return the module's result."""
    place = machine.kept()
    if place is None or place.exists():
        return {"changed": False, "did": "nothing: it is kept already" if place else "nothing: no recipe"}
    if machine.prepared_as() is None:
        return {"failed": True, "msg": f"{machine.full_name} has no tree to keep: bring the lab up first"}
    if check:
        return {"changed": True}
    machine.shut_down()
    machine.keep(place)
    return {**up(machine, check=False), "did": f"kept as {place}"}


def down(machine: Machine, *, check: bool) -> dict[str, Any]:
    """Take the machine away with its disk and return the module's result."""
    if check:
        return {"changed": True}
    known = machine.known_hosts()
    machine.power_off()
    machine.discard()
    shutil.rmtree(machine.dir)
    known.unlink(missing_ok=True)
    return {"changed": True}


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["up", "down", "kept"], "default": "up"},
            "lab": {"type": "str", "required": True},
            "lab_dir": {"type": "path", "required": True},
            "base": {"type": "path"},
            "bridge": {"type": "str"},
            "address": {"type": "str"},
            "hosts": {"type": "dict", "default": {}},
            "proxy": {"type": "str"},
            "user": {"type": "str"},
            "timeout_s": {"type": "int", "default": 60},
            "kept_dir": {"type": "path"},
            "recipe": {"type": "str", "default": ""},
        },
        required_if=[("state", state, NEEDED) for state in ("up", "kept")],
        supports_check_mode=True,
    )
    machine = Machine(module.params)
    if module.params["state"] == "down" and not machine.dir.exists():
        module.exit_json(changed=False)
    machine.dir.mkdir(parents=True, exist_ok=True)
    lock_name = hashlib.sha256(machine.full_name.encode()).hexdigest()[:8]
    with (machine.lab_dir / f".{lock_name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        result = {"up": up, "down": down, "kept": kept}[module.params["state"]](machine, check=module.check_mode)
    if result.get("failed"):
        module.fail_json(**result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
