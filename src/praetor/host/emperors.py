"""The Emperors of an app: instances of one unit, started by systemd as the app's user in the app's slice.

An instance is never changed. What needs another one (a new uWSGI, another unit, a library that was replaced) gets another: new slots start there,
and the old instance ends with its last slot. So an upgrade is a release like any other.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import pathlib
import re
import signal
import subprocess
from typing import TYPE_CHECKING

from . import sandbox
from .layout import AppHost, Emperor, ReleaseError, remove, write_atomically

if TYPE_CHECKING:
    from praetor.documents import Manifest

SHARED = Emperor("", 0)
_REPLACED = re.compile(r" (/(?:usr/|lib|opt/|bin/|sbin/)\S*) \(deleted\)$", re.MULTILINE)


def ensure(host: AppHost, manifest: Manifest) -> Emperor:
    """An Emperor of the app in which new slots of a release may start; starts another instance if no running one will do.

    Raises:
        ReleaseError: it cannot be started, or the host was not provisioned for it.
    """
    for emperor in reversed(host.emperors()):
        if not outdated(host, emperor, manifest):
            if _systemctl("is-active", "--quiet", emperor.unit).returncode:
                _start(emperor)
            return emperor
    emperor = host.next_emperor()
    directory, drop_in, text = host.vassals(emperor), host.drop_in(emperor), described(host, emperor, manifest)
    try:
        # The app's own user reads it, as its Emperor.
        directory.mkdir(mode=0o750)
        os.chown(directory, 0, directory.parent.stat().st_gid)
        drop_in.parent.mkdir(mode=0o755)
        write_atomically(drop_in, text, 0o644)
        _start(emperor)
    except BaseException:
        _end(host, emperor)
        raise
    return emperor


def outdated(host: AppHost, emperor: Emperor, manifest: Manifest) -> list[str]:
    """Why new slots of a release must not start in an instance, in words; empty when they may."""
    if not emperor.number:
        return ["it runs under the Emperor that all apps of the host share"]
    try:
        written = host.drop_in(emperor).read_text(encoding="utf-8")
    except FileNotFoundError:
        return [f"{emperor.unit} is not described"]
    if written != described(host, emperor, manifest):
        return ["uWSGI, the unit of the Emperor or the app's sandbox was changed"]
    replaced = sorted(replaced_files(host, emperor))
    return [f"it runs with {', '.join(replaced[:3])}, which was replaced"] if replaced else []


def described(host: AppHost, emperor: Emperor, manifest: Manifest) -> str:
    """The drop-in that makes an instance of the unit this app's, and names what it was made from.

    Raises:
        ReleaseError: the host was not provisioned for it.
    """
    digest, program = hashlib.sha256(), host.layout.emperor / "venv"
    try:
        (host.layout.vassals / host.app).stat()
        for path in (host.layout.units / "uwsgi-emperor@.service", host.layout.emperor / "emperor.ini"):
            digest.update(path.read_bytes())
        place = program.resolve(strict=True)
    except FileNotFoundError as error:
        raise ReleaseError(
            f"this host has no {error.filename}: it was not provisioned for apps with an Emperor each. Run playbooks/deploy.yml (or provision.yml) first."
        ) from None
    placeholders = f"--set-placeholder app={host.app} --set-placeholder instance={emperor.number}"
    return f"""# Managed by Ansible: written by a release and never changed; another need is another instance.
# Unit and settings: {digest.hexdigest()}
[Unit]
Description=uWSGI Emperor of {host.app}

[Service]
User={host.app}
Group={host.app}
Slice={host.slice}
ReadWritePaths={host.run_dir} {host.data}
ExecStart={place}/bin/uwsgi {placeholders} --ini {host.layout.emperor}/emperor.ini
{sandbox.directives(manifest["settings"].get("sandbox"))}"""


def replaced_files(host: AppHost, emperor: Emperor) -> set[str]:
    """Programs and libraries that were replaced on disk, and that the Emperor or one of its slots still has mapped."""
    found: set[str] = set()
    for process in _processes(host):
        with contextlib.suppress(OSError):  # it has ended
            if (process / "cgroup").read_text().rstrip().rpartition("/")[2] == emperor.unit:
                found |= set(_REPLACED.findall((process / "maps").read_text(errors="replace")))
    return found


def _processes(host: AppHost) -> list[pathlib.Path]:
    uid, found = host.uid, []
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if process.stat().st_uid == uid:
                found.append(process)
    return found


def retire_idle(host: AppHost) -> list[str]:
    """End the app's Emperors that have no slot any more; the names of their units."""
    idle = [emperor for emperor in host.emperors() if emperor.number and not any(host.vassals(emperor).glob("*.ini"))]
    for emperor in idle:
        _end(host, emperor)
    if shared := _retire_shared(host):
        return [*(emperor.unit for emperor in idle), shared]
    if idle:
        _forget_programs(host)
    return [emperor.unit for emperor in idle]


def signal_process(host: AppHost, emperor: Emperor, pid: int, number: int) -> None:
    """Send a signal to a process that an Emperor named, if it is the app's; the Emperor runs as the app, and the app may say what it likes."""
    with contextlib.suppress(ProcessLookupError, FileNotFoundError, OverflowError):
        process = os.pidfd_open(pid)
        try:
            uid = host.uid if emperor.number else 0
            if pathlib.Path(f"/proc/{pid}").stat().st_uid in {uid, host.uid}:
                signal.pidfd_send_signal(process, number)
        finally:
            os.close(process)


def _start(emperor: Emperor) -> None:
    # Enabled too: the slots of an instance must be back after a reboot. It reloads systemd's files.
    done = _systemctl("enable", "--now", "--quiet", emperor.unit)
    if done.returncode:
        command = ["journalctl", "--no-pager", "--quiet", "--lines=15", "--output=cat", f"--unit={emperor.unit}"]
        journal = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False).stdout
        raise ReleaseError(
            f"{emperor.unit} does not start: {done.stderr.strip()}\n{journal}What is live goes on serving."
        )


def _end(host: AppHost, emperor: Emperor) -> None:
    # Nobody waits for it: it has nothing to do any more.
    _systemctl("disable", "--now", "--no-block", "--quiet", emperor.unit)
    remove(host.vassals(emperor))
    remove(host.drop_in(emperor).parent)
    (host.run_dir / f"emperor-{emperor.number}.stats").unlink(missing_ok=True)


def _retire_shared(host: AppHost) -> str | None:
    """End the Emperor that all apps of a host shared in earlier versions, when it has no slot of any app; its unit."""
    unit = host.layout.units / SHARED.unit
    if not unit.exists() or any(host.vassals(SHARED).glob("*.ini")):
        return None
    _systemctl("disable", "--now", "--no-block", "--quiet", SHARED.unit)
    for path in (
        unit,
        host.vassals(SHARED),
        host.layout.vassals / "emperor.ini",
        host.layout.emperor / "vassal-wrapper",
        host.layout.run / "emperor.stats",
    ):
        remove(path)
    return SHARED.unit


def _forget_programs(host: AppHost) -> None:
    """Remove virtualenvs of uWSGI that no instance of any app starts any more."""
    link = host.layout.emperor / "venv"
    used = [path.read_text(encoding="utf-8") for path in host.layout.units.glob("uwsgi-emperor@*.service.d/*.conf")]
    if (host.layout.units / SHARED.unit).exists():
        return
    for place in host.layout.emperor.glob("venv-*"):
        if place != link.resolve() and not any(f"{place}/" in text for text in used):
            remove(place)


def _systemctl(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {"LC_ALL": "C", "PATH": "/usr/bin:/bin"}
    return subprocess.run(["systemctl", *arguments], capture_output=True, text=True, check=False, env=environment)
