"""The project's own authority: made once on the controller, kept there, known only to its hosts.

Where: a directory with `authority.pem`, which everyone may have, and `key.pem`, which nobody may.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from .pem import PemError, Source, general_names, names_of, public_pem, read_chain, read_key, remaining

DAYS = 3650
# So that a host whose clock is a little behind accepts a new certificate.
CLOCKS_DIFFER = timedelta(hours=1)
_COMMON_NAME_MAX = 64


@dataclass(frozen=True)
class Wanted:
    """What a certificate should say."""

    names: tuple[str, ...]
    client: bool  # may also be shown to servers, by services of the host

    @property
    def common_name(self) -> str:
        """The first name, or nothing where it is longer than a certificate can hold."""
        return self.names[0] if len(self.names[0]) <= _COMMON_NAME_MAX else ""

    @property
    def purposes(self) -> list[x509.ObjectIdentifier]:
        """What the certificate may be used for."""
        return [ExtendedKeyUsageOID.SERVER_AUTH, *([ExtendedKeyUsageOID.CLIENT_AUTH] if self.client else [])]


@dataclass(frozen=True)
class Authority:
    """A certificate and the key that signs others."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def pem(self) -> str:
        """The certificate, for those who trust it."""
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode()

    def issue(self, public_key: str, wanted: Wanted, days: int, now: datetime) -> str:
        """Return a certificate for somebody else's key; it ends no later than the authority.

        Raises:
            PemError: it is a key of another kind than hosts make.

        """
        key = serialization.load_pem_public_key(public_key.encode())
        if not isinstance(key, ec.EllipticCurvePublicKey):
            raise PemError(
                f"found a {type(key).__name__} on the host, expected a key that this role made: remove the old one"
            )
        end = min(now + timedelta(days=days), self.certificate.not_valid_after_utc)
        builder = _begin(_name(wanted.common_name), self.certificate.subject, now, end).public_key(key)
        for extension, critical in (
            (x509.SubjectAlternativeName(general_names(wanted.names)), not wanted.common_name),
            (x509.BasicConstraints(ca=False, path_length=None), True),
            (_usage(sign_certificates=False), True),
            (x509.ExtendedKeyUsage(wanted.purposes), False),
            (x509.SubjectKeyIdentifier.from_public_key(key), False),
            (x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), False),
        ):
            builder = builder.add_extension(extension, critical=critical)
        issued = builder.sign(self.key, hashes.SHA256())
        return issued.public_bytes(serialization.Encoding.PEM).decode()

    def issued(self, certificate: x509.Certificate) -> bool:
        """Tell whether a certificate is this authority's."""
        try:
            certificate.verify_directly_issued_by(self.certificate)
        except Exception:  # noqa: BLE001  whatever is wrong with it, it is not ours
            return False
        return True


def load(directory: Path) -> Authority | None:
    """Return the authority in a directory; none if it was never made.

    Raises:
        PemError: it is there, and cannot be used or could be read by others.

    """
    key_file, file = directory / "key.pem", directory / "authority.pem"
    if not file.exists():
        return None
    if not key_file.exists():
        raise PemError(f"{key_file}: found nothing, expected the key of {file.name} next to it")
    mode = key_file.stat().st_mode & 0o777
    if mode & 0o077:
        raise PemError(f"{key_file}: found mode {mode:04o}, expected 0600: others could have read the authority's key")
    (certificate, *_), key = (
        read_chain(Source(str(file), file.read_text(encoding="utf-8"))),
        read_key(Source(str(key_file), key_file.read_text(encoding="utf-8"))),
    )
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        raise PemError(f"{key_file}: found another key, expected the key of {file}")
    return Authority(certificate, key)


def make(directory: Path, name: str, now: datetime) -> Authority:
    """Return the authority in a directory; make it if there is none. Of several who ask at once, one makes it."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _alone(directory):
        found = load(directory)
        if found is not None:
            return found
        key = ec.generate_private_key(ec.SECP256R1())
        subject = _name(f"Praetor authority {name}"[:_COMMON_NAME_MAX])
        builder = _begin(subject, subject, now, now + timedelta(days=DAYS)).public_key(key.public_key())
        for extension, critical in (
            (x509.BasicConstraints(ca=True, path_length=0), True),
            (_usage(sign_certificates=True), True),
            (x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False),
        ):
            builder = builder.add_extension(extension, critical=critical)
        authority = Authority(builder.sign(key, hashes.SHA256()), key)
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        # The certificate last: without it there is no authority, and a key without one is replaced.
        _write(directory / "key.pem", private, 0o600)
        _write(directory / "authority.pem", authority.pem.encode(), 0o644)
        return authority


def why_anew(
    certificate: str, public_key: str, wanted: Wanted, authority: Authority | None, renew_days: int, now: datetime
) -> str:
    """Say why a host needs a new certificate; empty while it is good."""
    try:
        found = read_chain(Source("", certificate))[0]
    except PemError:
        return "it cannot be read" if certificate.strip() else "there is none"
    if public_pem(found.public_key()).strip() != public_key.strip():
        return "its key is another one"
    if authority is None or not authority.issued(found):
        return "another authority issued it"
    names = [str(name.value) for name in general_names(wanted.names)]
    if names_of(found) != names:
        return f"it is for {', '.join(names_of(found)) or 'no name'}, not for {', '.join(names)}"
    try:
        purposes = list(found.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    except x509.ExtensionNotFound:
        purposes = []
    if purposes != wanted.purposes:
        return "it is for another purpose"
    left = remaining(found, now)
    return f"it ends on {found.not_valid_after_utc:%Y-%m-%d}" if left < timedelta(days=renew_days) else ""


def _begin(subject: x509.Name, issuer: x509.Name, now: datetime, end: datetime) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - CLOCKS_DIFFER)
        .not_valid_after(end)
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)] if common_name else [])


def _usage(*, sign_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not sign_certificates,
        key_cert_sign=sign_certificates,
        crl_sign=sign_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _write(path: Path, content: bytes, mode: int) -> None:
    """Put a file in its place at once, on the disk and not readable by others at any moment."""
    new = path.with_name(f".{path.name}.new")
    new.unlink(missing_ok=True)
    handle = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(handle)
    new.replace(path)
