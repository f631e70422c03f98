"""What is in PEM files, and whether it can be served. Runs on the controller.

Each problem is one sentence that says where it is, what was found and what is expected.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes

# OpenSSL at Debian's security level refuses to load less.
RSA_MIN_BITS = 2048
Read = TypeVar("Read")


class PemError(Exception):
    """A file that cannot be read as what it should be; the message is for an operator."""


@dataclass(frozen=True)
class Source:
    """A text, and where it came from."""

    where: str
    text: str


def read_chain(source: Source) -> list[x509.Certificate]:
    """Return the certificates of a text, in their order.

    Raises:
        PemError: there is none, or one cannot be read.

    """
    if "-----BEGIN CERTIFICATE-----" not in source.text:
        raise PemError(f"{source.where}: found no certificate, expected PEM with -----BEGIN CERTIFICATE-----")
    try:
        return x509.load_pem_x509_certificates(source.text.encode())
    except ValueError as error:
        raise PemError(f"{source.where}: found a certificate that cannot be read ({error}), expected PEM") from error


def read_key(source: Source) -> PrivateKeyTypes:
    """Return the private key of a text; messages about a broken key contain no byte of it.

    Raises:
        PemError: there is none, or it is encrypted, or it cannot be read.

    """
    if "PRIVATE KEY-----" not in source.text:
        raise PemError(f"{source.where}: found no private key, expected PEM with -----BEGIN PRIVATE KEY-----")
    try:
        return serialization.load_pem_private_key(source.text.encode(), password=None)
    except TypeError as error:
        raise PemError(
            f"{source.where}: found a key that is encrypted with a passphrase, expected one without: "
            "keep it in a vaulted value instead"
        ) from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise PemError(f"{source.where}: found a private key that cannot be read, expected PEM") from error


def public_pem(key: PublicKeyTypes) -> str:
    """Return a public key as `openssl pkey -pubout` writes it."""
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()


def names_of(certificate: x509.Certificate) -> list[str]:
    """Return the host names and addresses that a certificate is for."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return [str(name.value) for name in names if isinstance(name, x509.DNSName | x509.IPAddress)]


def is_authority(certificate: x509.Certificate) -> bool:
    """Whether a certificate says that its owner may issue others."""
    try:
        return bool(certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca)
    except x509.ExtensionNotFound:
        return False


def covers(names: Iterable[str], wanted: str) -> bool:
    """Tell whether clients accept one of these names for a host; a wildcard stands for one label (RFC 9525)."""
    _, _, parent = wanted.lower().partition(".")
    return any(name.lower() in {wanted.lower(), f"*.{parent}"} for name in names)


def general_names(names: Iterable[str]) -> list[x509.GeneralName]:
    """Return names and addresses as an extension holds them."""
    found: list[x509.GeneralName] = []
    for name in names:
        try:
            found.append(x509.IPAddress(ipaddress.ip_address(name)))
        except ValueError:
            found.append(x509.DNSName(name))
    return found


def subject(name: x509.Name) -> str:
    """Return a name as people write it, or say that it is empty."""
    return name.rfc4514_string() or "an empty name"


def _issued(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def chain_problems(chain: Sequence[x509.Certificate], where: str, roots: Sequence[x509.Certificate]) -> list[str]:
    """Say where a chain breaks: each certificate is issued by the next, and the last is a root or issued by one."""
    for position, (certificate, issuer) in enumerate(pairwise(chain), start=1):
        if not _issued(certificate, issuer):
            issuer_of = f"the one that issued certificate {position}: {subject(certificate.issuer)}"
            return [f"{where}: found {subject(issuer.subject)} as certificate {position + 1}, expected {issuer_of}"]
    last = chain[-1]
    if any(last == root or _issued(last, root) for root in roots if root.subject in {last.issuer, last.subject}):
        return []
    missing = f"the certificate of its issuer, {subject(last.issuer)}, after it, or that issuer among the trusted roots"
    return [f"{where}: found a chain that ends with {subject(last.subject)}, expected {missing}"]


def _weakness(key: PublicKeyTypes) -> str:
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < RSA_MIN_BITS:
        return f"an RSA key of {key.key_size} bits"
    if not isinstance(
        key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | ed448.Ed448PublicKey
    ):
        return f"a key of another kind ({type(key).__name__})"
    return ""


def _or_problem(read: Callable[[Source], Read], source: Source) -> tuple[Read | None, list[str]]:
    try:
        return read(source), []
    except PemError as error:
        return None, [str(error)]


def _time_problems(certificate: x509.Certificate, where: str, now: datetime) -> list[str]:
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    whose = f"of {subject(certificate.subject)}"
    problems = []
    if end <= now:
        problems.append(f"{where}: found the end {whose} on {end:%Y-%m-%d %H:%M} UTC, expected one that is to come")
    if begin > now:
        problems.append(f"{where}: found the begin {whose} on {begin:%Y-%m-%d %H:%M} UTC, expected one that is past")
    return problems


def pair_problems(
    certificate: Source, key: Source, names: Iterable[str], roots: Sequence[x509.Certificate], now: datetime
) -> list[str]:
    """Say everything that would make clients refuse a certificate or NGINX refuse to start."""
    chain, problems = _or_problem(read_chain, certificate)
    private, unreadable = _or_problem(read_key, key)
    problems += unreadable
    if not chain:
        return problems
    leaf = chain[0]
    if private is not None and private.public_key() != leaf.public_key():
        problems.append(
            f"{key.where}: found a key that does not belong to {subject(leaf.subject)}, "
            f"expected the key of the first certificate in {certificate.where}"
        )
    if weakness := _weakness(leaf.public_key()):
        problems.append(f"{certificate.where}: found {weakness}, expected RSA from {RSA_MIN_BITS} bits, ECDSA or EdDSA")
    for name in names:
        if not covers(names_of(leaf), name):
            found = ", ".join(names_of(leaf)) or "none"
            problems.append(f"{certificate.where}: found the names {found}, expected {name} among them")
    problems += [problem for each in chain for problem in _time_problems(each, certificate.where, now)]
    return problems + chain_problems(chain, certificate.where, roots)


def remaining(certificate: x509.Certificate, now: datetime) -> timedelta:
    """Return how long a certificate is still valid."""
    return certificate.not_valid_after_utc - now
