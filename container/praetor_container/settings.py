"""What the container was started with: variables, secrets, and the share of the machine that it was given."""

from __future__ import annotations

import contextlib
import difflib
import ipaddress
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .image import Image, RefusedError

# Variables of the image itself; README.md says what each does.
OWN = ("PORT", "WORKERS", "TRUSTED_PROXIES", "METRICS_LISTEN", "MIGRATE", "DRAIN_S")
# The release says these; another value would be a lie, or point to what is not there.
FIXED = frozenset(
    {"APP_NAME", "APP_RELEASE", "APP_COMMIT", "APP_DATA_DIR", "APP_SECRETS_DIR", "PROMETHEUS_MULTIPROC_DIR"}
)
MOST_WORKERS = 64
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True)
class Settings:
    """The variables of the image, checked."""

    port: int
    workers: int
    trusted_proxies: tuple[str, ...]
    metrics_listen: str  # address:port, empty for none
    migrate: bool
    drain_s: int


def settings(environ: Mapping[str, str], image: Image) -> Settings:
    """Read the image's own variables.

    Raises:
        RefusedError: each one that is wrong, with what was expected.
    """
    wrong = _taken(environ)
    given = image.workers if isinstance(image.workers, int) else cores(image.root)
    migrate = environ.get("MIGRATE", "")
    if migrate not in {"", "yes", "no"}:
        wrong.append(f"MIGRATE={migrate!r}: expected yes or no")
    listen = environ.get("METRICS_LISTEN", "0.0.0.0:9117")
    if listen and not _is_address(listen):
        wrong.append(
            f"METRICS_LISTEN={listen!r}: expected ADDRESS:PORT, such as 0.0.0.0:9117, or nothing for no metrics"
        )
    found = Settings(
        port=_number(environ, "PORT", 80, (1, 65535), wrong),
        workers=_number(environ, "WORKERS", given, (1, MOST_WORKERS), wrong),
        trusted_proxies=_networks(environ.get("TRUSTED_PROXIES", ""), wrong),
        metrics_listen=listen,
        migrate=migrate == "yes" or (not migrate and image.migrate_on == "each"),
        drain_s=_number(environ, "DRAIN_S", 0, (0, 3600), wrong),
    )
    if wrong:
        raise RefusedError("; ".join(wrong))
    return found


def _taken(environ: Mapping[str, str]) -> list[str]:
    found = [
        f"{name}: uWSGI would take it for one of the options that it reads; the number of its workers is WORKERS"
        for name in sorted(environ)
        if name.startswith("UWSGI_")
    ]
    return found + [f"{name}: the image sets it itself" for name in sorted(FIXED & set(environ))]


def _number(environ: Mapping[str, str], name: str, default: int, bounds: tuple[int, int], wrong: list[str]) -> int:
    text, (low, high) = environ.get(name, ""), bounds
    if not text:
        return default
    if text.isascii() and text.isdecimal() and low <= int(text) <= high:
        return int(text)
    wrong.append(f"{name}={text!r}: expected a whole number from {low} to {high}")
    return default


def _networks(text: str, wrong: list[str]) -> tuple[str, ...]:
    found = []
    for word in text.replace(",", " ").split():
        try:
            found.append(str(ipaddress.ip_network(word)))
        except ValueError as error:
            wrong.append(f"TRUSTED_PROXIES: {error}; expected addresses and networks, such as 10.0.0.0/8")
    return tuple(found)


def misspelt(environ: Mapping[str, str]) -> list[str]:
    """Say which variables look like one of the image's own and are none: they have no effect here."""
    found = []
    for name in sorted(set(environ) - set(OWN)):
        near = difflib.get_close_matches(name, OWN, n=1, cutoff=0.8)
        found += [f"{name} is no variable of the image; did you mean {near[0]}?"] if near else []
    return found


def environment(environ: Mapping[str, str], image: Image) -> dict[str, str]:
    """What the app finds: the release's own variables, over them those of the container, over them its secrets.

    Raises:
        RefusedError: a secret has the name of a variable that the image sets.
    """
    found = {"LANG": "C.UTF-8", "USER": image.app, "PYTHONUNBUFFERED": "1"}
    found |= {path.name: path.read_text(encoding="utf-8") for path in sorted((image.place / "env").iterdir())}
    found |= environ
    if image.secrets.is_dir():
        found["APP_SECRETS_DIR"] = str(image.secrets)
        for path in sorted(image.secrets.iterdir()):
            # Kubernetes keeps its own links there, and a file that is no variable is read by whoever knows it.
            if not (_VARIABLE.fullmatch(path.name) and path.is_file()):
                continue
            if path.name in {*FIXED, *OWN, "PATH", "HOME"}:
                raise RefusedError(f"{path}: the image sets {path.name} itself; no secret can have that name")
            try:
                found[path.name] = path.read_text(encoding="utf-8").removesuffix("\n")
            except (OSError, ValueError) as error:
                raise RefusedError(f"{path}: user {os.getuid()} cannot read the secret ({error})") from None
    found["HOME"] = str(image.data)
    found["PATH"] = f"{image.place}/venv/bin:/usr/bin:/bin"
    if (image.place / "src").is_dir():
        found.setdefault("PYTHONPATH", str(image.place / "src"))
    return found


def cores(root: Path = Path("/")) -> int:
    """How many processors may be used: of the machine's those that this container was given, by affinity and by quota."""
    allowed = len(os.sched_getaffinity(0))
    groups = root / "sys/fs/cgroup"
    with contextlib.suppress(OSError, ValueError):  # cgroups v2; without a quota it says max
        quota, period = (groups / "cpu.max").read_text(encoding="ascii").split()
        return max(1, min(allowed, math.ceil(int(quota) / int(period))))
    with contextlib.suppress(OSError, ValueError):  # v1; without a quota it says -1
        quota_us, period_us = (
            int((groups / "cpu" / f"cpu.cfs_{name}_us").read_text(encoding="ascii")) for name in ("quota", "period")
        )
        if quota_us > 0:
            return max(1, min(allowed, math.ceil(quota_us / period_us)))
    return allowed


def _is_address(text: str) -> bool:
    host, _, port = text.rpartition(":")
    try:
        ipaddress.IPv4Address(host)
    except ValueError:
        return False
    return port.isascii() and port.isdecimal() and 1 <= int(port) <= 65535
