"""When the host's certificates end: PEM files, read with the standard library."""

from __future__ import annotations

import binascii
import re
from base64 import b64decode
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from app_exporter.problems import BrokenError

if TYPE_CHECKING:
    from pathlib import Path

    from app_exporter.exposition import Exposition, Labels
    from app_exporter.problems import Problems

MAX_BYTES = 1 << 20
_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----(.*?)-----END CERTIFICATE-----", re.DOTALL)
_SEQUENCE, _VERSION, _UTC_TIME, _TIME = 0x30, 0xA0, 0x17, 0x18


def _element(data: bytes, at: int) -> tuple[int, int, int]:
    """Read the head of a DER element: its tag, where its content begins, where it ends."""
    tag, length = data[at], data[at + 1]
    start = at + 2
    if length & 0x80:
        count = length & 0x7F
        length = int.from_bytes(data[start : start + count], "big")
        start += count
    if start + length > len(data):
        raise BrokenError("is cut off")
    return tag, start, start + length


def not_after(der: bytes) -> float:
    """Find out when a certificate ends (RFC 5280, 4.1).

    Raises:
        BrokenError: it is no certificate.

    """
    try:
        _, inside, _ = _element(der, 0)
        _, at, _ = _element(der, inside)
        tag, _, end = _element(der, at)
        skipped = 4 if tag == _VERSION else 3  # version, serial number, algorithm, issuer
        for _ in range(skipped):
            _, _, at = _element(der, at)
        tag, inside, _ = _element(der, at)
        if tag != _SEQUENCE:
            raise BrokenError("has no time where a certificate has it")
        _, _, second = _element(der, inside)
        tag, start, end = _element(der, second)
        text = der[start:end].decode("ascii")
        if tag == _UTC_TIME:  # two digits of the year, from 1950 on
            text = f"{'19' if text >= '5' else '20'}{text}"
        elif tag != _TIME:
            raise BrokenError("has no time where a certificate has it")
        return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()
    except (IndexError, ValueError) as error:
        raise BrokenError(f"is no certificate: {error}") from None


def earliest_end(path: Path) -> float:
    """Find out when the first certificate of a PEM file ends: of a chain, the one that breaks it.

    Raises:
        OSError: it cannot be read.
        BrokenError: it has no certificate, or a broken one.

    """
    with path.open("rb") as file:
        found = _PEM.findall(file.read(MAX_BYTES))
    if not found:
        raise BrokenError("has no certificate")
    try:
        return min(not_after(b64decode(text)) for text in found)
    except binascii.Error as error:
        raise BrokenError(f"is no certificate: {error}") from None


def add_certificates(directory: Path, exposition: Exposition, problems: Problems) -> None:
    """Add the end of each certificate: the host's own, its authority's, and those of the sites."""
    places: list[tuple[str, Path, Labels]] = [
        ("host", directory / "host" / "cert.pem", (("certificate", "host"),)),
        ("authority", directory / "host" / "authority.pem", (("certificate", "authority"),)),
    ]
    for path in sorted(directory.glob("sites/*/fullchain.pem")):
        places.append((path.parent.name, path, (("app", path.parent.name),)))
    for name, path, labels in places:
        try:
            end = earliest_end(path)
        except FileNotFoundError:
            continue
        except (OSError, BrokenError) as error:
            problems.note(name, "certificate", f"{name}/{path.name}", str(error))
            continue
        text = "Time at which a certificate ends; of a chain, the first that does."
        exposition.add("gauge", "praetor_certificate_not_after_timestamp_seconds", text, end, labels)
