"""What a host needs, given what was found on it. Runs on the controller; touches nothing but files that the inventory names."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from .authority import Authority, Wanted, why_anew
from .pem import PemError, Source, pair_problems, public_pem, read_chain, read_key, remaining

HOST = "host"
_ENDS_SOON = timedelta(days=21)
_KEYS = ("certificate", "certificate_file", "key", "key_file")


@dataclass
class Plan:
    """Files to install below the role's directory, and why."""

    files: dict[str, str] = field(default_factory=dict)
    why: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def add(self, other: Plan) -> None:
        """Do what another plan says, too."""
        self.files |= other.files
        self.why += other.why
        self.warnings += other.warnings


@dataclass(frozen=True)
class Provided:
    """A pair that was checked."""

    certificate: str
    key: str
    ends: datetime
    soon: bool


def site_place(name: str) -> str:
    """Return where the pair of a site lies."""
    return f"sites/{name}"


def foreign_authority(on_host: str, own: Authority | None, directory: Path) -> str:
    """Say why a host's authority must not be replaced; empty if it has none or the controller's own."""
    if not on_host.strip() or (own is not None and on_host.strip() == own.pem.strip()):
        return ""
    here = f"{directory}/authority.pem has the fingerprint {_fingerprint(own.pem)}" if own else f"{directory} has none"
    return (
        f"host/authority.pem: found an authority that this controller does not have (fingerprint {_fingerprint(on_host)}; {here}). "
        f"Copy {directory} from the controller that made it, or replace it on all hosts with "
        "-e certificates_replace_authority=true. Nothing was changed."
    )


def plan_issued(
    seen: Mapping[str, Any],
    wanted: Mapping[str, Wanted],
    authority: Authority | None,
    *,
    days: int,
    renew_days: int,
    keep_foreign: bool,
    now: datetime,
) -> Plan:
    """Issue what is missing or ends soon. `keep_foreign` leaves a site alone that has a pair from somebody else."""
    plan = Plan()
    for place, each in wanted.items():
        found = seen["places"][place]
        if keep_foreign and place != HOST and _foreign_pair(found, authority):
            continue
        why = why_anew(found["certificate"], found["public_key"], each, authority, renew_days, now)
        if not why:
            continue
        plan.why.append(f"{place}: a new certificate, because {why}")
        if authority is not None and found["public_key"]:
            file = "cert.pem" if place == HOST else "fullchain.pem"
            plan.files[f"{place}/{file}"] = authority.issue(found["public_key"], each, days, now)
    if authority is None or seen["authority"].strip() != authority.pem.strip():
        plan.why.append(f"{HOST}: the certificate of the authority")
        if authority is not None:
            plan.files[f"{HOST}/authority.pem"] = authority.pem
    return plan


def plan_provided(places: Mapping[str, Mapping[str, str]], provided: Mapping[str, Provided]) -> Plan:
    """Install the pairs that are given where a host has others."""
    plan = Plan()
    for name, pair in provided.items():
        place = site_place(name)
        if pair.soon:
            plan.warnings.append(f"the certificate of {name} ends on {pair.ends:%Y-%m-%d}")
        same_key = places[place]["public_key"].strip() == _public(pair.key)
        if same_key and places[place]["certificate"] == pair.certificate:
            continue
        plan.why.append(f"{place}: the pair that is provided")
        plan.files |= {f"{place}/key.pem": pair.key, f"{place}/fullchain.pem": pair.certificate}
    return plan


def read_provided(
    given: Mapping[str, Any], sites: Mapping[str, Sequence[str]], roots_file: str, base: Path, now: datetime
) -> tuple[dict[str, Provided], list[str]]:
    """Return the checked pair of each site, and everything that is wrong with what is given."""
    found: dict[str, Provided] = {}
    problems = [
        f"certificates_provided.{name}: found no app of this name, expected one of {', '.join(sites)}"
        for name in given
        if name not in sites
    ]
    try:
        roots = read_chain(Source(str(roots_file), _resolve(str(roots_file), base).read_text(encoding="utf-8")))
    except (OSError, PemError) as error:
        return found, [*problems, f"certificates_roots_file: {error}"]
    for name, names in sites.items():
        where = f"certificates_provided.{name}"
        if name not in given:
            problems.append(f"{where}: found nothing, expected certificate and key of {', '.join(names)}")
            continue
        wrong, pair = _read_pair(where, given[name], names, roots, base, now)
        problems += wrong
        if pair is not None:
            found[name] = pair
    return found, problems


def _read_pair(
    where: str, given: Any, names: Sequence[str], roots: Sequence[x509.Certificate], base: Path, now: datetime
) -> tuple[list[str], Provided | None]:
    if not isinstance(given, Mapping):
        return [f"{where}: found {type(given).__name__}, expected a mapping with certificate and key"], None
    problems = [
        f"{where}.{key}: found an unknown key, expected one of {', '.join(_KEYS)}" for key in given if key not in _KEYS
    ]
    sources = {}
    for kind in ("certificate", "key"):
        try:
            sources[kind] = _source(where, given, kind, base)
        except PemError as error:
            problems.append(str(error))
    if len(sources) == 2:
        problems += pair_problems(sources["certificate"], sources["key"], names, roots, now)
    if problems:
        return problems, None
    ends = read_chain(sources["certificate"])[0]
    soon = remaining(ends, now) < _ENDS_SOON
    return [], Provided(sources["certificate"].text, sources["key"].text, ends.not_valid_after_utc, soon)


def _source(where: str, given: Mapping[str, Any], kind: str, base: Path) -> Source:
    """Return one half of a pair, from the inventory itself or from a file on the controller."""
    in_file = f"{kind}_file"
    if (kind in given) == (in_file in given):
        raise PemError(f"{where}: found {'both' if kind in given else 'neither'} of {kind} and {in_file}, expected one")
    if kind in given:
        return Source(f"{where}.{kind}", str(given[kind]).strip() + "\n")
    path = _resolve(str(given[in_file]), base)
    place = f"{where}.{in_file}: {path}"
    try:
        text = path.read_text(encoding="utf-8")
        mode = path.stat().st_mode & 0o777
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no text"
        raise PemError(f"{place}: found {reason}, expected a file in PEM") from error
    if kind == "key" and mode & 0o077:
        raise PemError(f"{place}: found mode {mode:04o}, expected 0600: others can read the key")
    return Source(place, text.strip() + "\n")


def _resolve(path: str, base: Path) -> Path:
    return base / Path(path).expanduser()


def _foreign_pair(found: Mapping[str, str], authority: Authority | None) -> bool:
    """Tell whether a place holds a whole pair that this authority has not issued."""
    try:
        certificate = read_chain(Source("", found["certificate"]))[0]
    except PemError:
        return False
    whole = public_pem(certificate.public_key()).strip() == found["public_key"].strip()
    return whole and (authority is None or not authority.issued(certificate))


def _public(key: str) -> str:
    return public_pem(read_key(Source("", key)).public_key()).strip()


def _fingerprint(pem: str) -> str:
    try:
        digest = read_chain(Source("", pem))[0].fingerprint(hashes.SHA256())
    except PemError:
        digest = hashlib.sha256(pem.encode()).digest()
    return digest.hex()[:16]
