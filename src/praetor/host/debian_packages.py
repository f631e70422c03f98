"""Installs packages of the distribution that are missing; upgrades and removes nothing."""

from __future__ import annotations

import fcntl
import subprocess
import time
from pathlib import Path
from typing import Any

from .layout import ReleaseError

_LISTS = Path("/var/lib/apt/lists")
_LISTS_MAX_AGE_S = 3600
_LOCK_WAIT_S = 120
_POLICY = Path("/usr/sbin/policy-rc.d")
_POLICY_TEXT = "#!/bin/sh\n# Made by debian_packages for one installation.\nexit 101\n"
_ENVIRONMENT = {"DEBIAN_FRONTEND": "noninteractive", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}


def work(*, check: bool, name: list[str], start: bool = True) -> dict[str, Any]:
    """Install those of `name` that are missing; `a | b` is satisfied by either and installs the first when the host has none of them.

    Needs nothing on the host but apt-get and dpkg, so a dry run (`check`) works on a host that has neither python3-apt nor package lists yet. Without
    `start`, services do not start at installation: they are safe with a role's settings only. Finishes an installation that was interrupted.

    Raises:
        ReleaseError: what apt-get said.
    """
    wanted = missing(name, _installed(name))
    if wanted and not check:
        error = install(wanted, start=start)
        if error:
            raise ReleaseError(f"apt-get could not install {', '.join(wanted)}:\n{error}")
    diff = {"before": "", "after": "".join(f"{name}\n" for name in wanted)}
    return {"changed": bool(wanted), "missing": wanted, "diff": diff}


def alternatives(spec: str) -> list[str]:
    """Split ``a | b`` into its names, in order of preference."""
    return [name.strip() for name in spec.split("|") if name.strip()]


def missing(specs: list[str], installed: set[str]) -> list[str]:
    """Name what must be installed: the first alternative of each spec that nothing installed satisfies."""
    return [names[0] for names in map(alternatives, specs) if not installed.intersection(names)]


def parse_status(text: str) -> set[str]:
    """Read ``dpkg-query`` lines of ``<status> <package>``; only a finished installation counts."""
    rows = (line.split() for line in text.splitlines())
    return {row[1] for row in rows if len(row) == 2 and row[0] == "installed"}


def _run(*argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv, capture_output=True, text=True, check=False, env=_ENVIRONMENT, stdin=subprocess.DEVNULL)


def _installed(specs: list[str]) -> set[str]:
    names = [name for spec in specs for name in alternatives(spec)]
    # dpkg-query exits with 1 for a name that it has never seen; its other lines are still right.
    return parse_status(_run("dpkg-query", "-W", "-f", "${db:Status-Status} ${Package}\\n", *names).stdout)


def _update_lists() -> subprocess.CompletedProcess[str]:
    """Fetch the package lists; wait while a timer of the system (apt-daily) is doing the same."""
    deadline = time.monotonic() + _LOCK_WAIT_S
    while True:
        done = _run("apt-get", "update", "-q")
        if done.returncode == 0 or "Could not get lock" not in done.stderr or time.monotonic() > deadline:
            return done
        time.sleep(2)


def _lists_are_fresh() -> bool:
    try:
        return time.time() - (_LISTS / "partial").stat().st_mtime < _LISTS_MAX_AGE_S
    except OSError:
        return False


def _install(names: list[str]) -> subprocess.CompletedProcess[str]:
    return _run(
        *("apt-get", "install", "-q", "-y", "--no-install-recommends"),
        *("-o", f"DPkg::Lock::Timeout={_LOCK_WAIT_S}"),
        *("-o", "Dpkg::Options::=--force-confdef", "-o", "Dpkg::Options::=--force-confold"),
        *names,
    )


def _forbid_starts() -> bool:
    """Keep maintainer scripts from starting services; false when the administrator has a policy already."""
    if _POLICY.exists() and _POLICY.read_text() != _POLICY_TEXT:
        return False
    _POLICY.write_text(_POLICY_TEXT)
    _POLICY.chmod(0o755)
    return True


def _allow_starts() -> None:
    """Take our policy away; it may be left from a run that was killed."""
    if _POLICY.exists() and _POLICY.read_text() == _POLICY_TEXT:
        _POLICY.unlink()


def install(names: list[str], *, start: bool) -> str:
    """Install packages.

    Returns:
        An empty string, or what apt-get said when it failed.

    """
    # One at a time on a host: two runs must not take each other's policy away.
    with Path("/run/debian_packages.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        # An installation that was cut off leaves packages unpacked, and apt-get refuses to go on.
        _run("dpkg", "--configure", "-a", "--force-confdef", "--force-confold")
        fresh = _lists_are_fresh()
        updated = None if fresh else _update_lists()
        try:
            if not start:
                _forbid_starts()
            done = _install(names)
            if done.returncode and fresh:  # the mirror has moved on since the lists were fetched
                updated = _update_lists()
                done = _install(names)
        finally:
            _allow_starts()
    if done.returncode == 0:
        return ""
    said = [done.stderr.strip() or done.stdout.strip()]
    if updated is not None and updated.returncode:
        said.insert(0, updated.stderr.strip())
    return "\n".join(said)
