"""Certificates: what the project's own authority issues, when it does so again, and which pairs of others are refused."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from project import ROOT, defaults, imported

from praetor.host import tls_places
from praetor.pki.authority import Authority, Wanted, load, make, why_anew
from praetor.pki.pem import PemError, covers, public_pem, read_chain
from praetor.pki.pem import Source as Text
from praetor.pki.plan import foreign_authority, plan_issued, plan_provided, read_provided

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
NAMES = ("api.example.org", "www.example.org")
SITE = Wanted(NAMES, client=False)
Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


def private_pem(key: Key, passphrase: bytes = b"") -> str:
    """Return a private key as a file holds it."""
    encryption: serialization.KeySerializationEncryption = serialization.NoEncryption()
    if passphrase:
        encryption = serialization.BestAvailableEncryption(passphrase)
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, encryption).decode()


def new_key() -> ec.EllipticCurvePrivateKey:
    """Return a key as hosts make them."""
    return ec.generate_private_key(ec.SECP256R1())


def issued(
    issuer: tuple[str, Key], name: str, key: Key, *, names: Sequence[str] = (), begin: int = -1, end: int = 90
) -> str:
    """Return a certificate as an authority out in the world issues it; begin and end in days from now."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, issuer[0])]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW + timedelta(days=begin))
        .not_valid_after(NOW + timedelta(days=end))
    )
    if names:
        builder = builder.add_extension(
            x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False
        )
    return builder.sign(issuer[1], hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


class World:
    """A root, an intermediate, and a pair for a site; what a test changes of it is what must be noticed."""

    def __init__(self, base: Path) -> None:
        """Issue everything again."""
        self.base = base
        self.root_key, self.middle_key, self.key = new_key(), new_key(), new_key()
        self.root = issued(("Root", self.root_key), "Root", self.root_key, end=3000)
        self.middle = issued(("Root", self.root_key), "Middle", self.middle_key, end=1000)
        self.leaf = self.of(self.key)
        (base / "roots.pem").write_text(self.root)

    def of(self, key: Key, **changes: Any) -> str:
        """Return a certificate for the site."""
        return issued(("Middle", self.middle_key), NAMES[0], key, **{"names": NAMES, **changes})

    def problems(self, certificate: str, key: str = "", **given: Any) -> list[str]:
        """Return what is said about a pair in the inventory."""
        pair = {"certificate": certificate, "key": key or private_pem(self.key), **given}
        return read_provided({"api": pair}, {"api": NAMES}, "roots.pem", self.base, NOW)[1]


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Return certificates of others."""
    return World(tmp_path)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """Return an authority of the project's own."""
    return make(tmp_path / "authority", "test", NOW)


def openssl(*arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
    """Ask the judge that hosts have."""
    return subprocess.run(["openssl", *arguments], input=given, capture_output=True, text=True, check=False)


# The authority of the project's own.


def test_the_authority_is_made_once_whoever_asks(tmp_path: Path) -> None:
    place = tmp_path / "of" / "lab"
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: make(place, "lab", NOW).pem, range(8)))
    assert len(set(made)) == 1
    assert {path.name: path.stat().st_mode & 0o777 for path in (place, place / "key.pem")} == {
        "lab": 0o700,
        "key.pem": 0o600,
    }
    found = load(place)
    assert found is not None
    assert found.pem == made[0]


def test_an_authority_that_others_can_read_is_refused(tmp_path: Path) -> None:
    make(tmp_path, "lab", NOW)
    (tmp_path / "key.pem").chmod(0o640)
    with pytest.raises(PemError, match=r"key\.pem: found mode 0640, expected 0600"):
        load(tmp_path)


def test_an_authority_without_its_key_or_with_another_one_is_refused(tmp_path: Path) -> None:
    make(tmp_path, "lab", NOW)
    (tmp_path / "key.pem").write_text(private_pem(new_key()))
    with pytest.raises(PemError, match="found another key"):
        load(tmp_path)
    (tmp_path / "key.pem").unlink()
    with pytest.raises(PemError, match="found nothing, expected the key"):
        load(tmp_path)


def test_a_run_that_died_between_key_and_certificate_makes_both_anew(tmp_path: Path) -> None:
    make(tmp_path, "lab", NOW)
    (tmp_path / "authority.pem").unlink()
    again = make(tmp_path, "lab", NOW)
    found = load(tmp_path)
    assert found is not None
    assert found.pem == again.pem


@pytest.mark.parametrize(
    ("client", "purpose", "accepted"),
    [(False, "sslserver", True), (True, "sslserver", True), (True, "sslclient", True), (False, "sslclient", False)],
)
def test_openssl_accepts_what_it_issues_for_its_purpose_only(
    authority: Authority, tmp_path: Path, *, client: bool, purpose: str, accepted: bool
) -> None:
    wanted = Wanted(("app1", "198.18.0.11"), client=client)
    (tmp_path / "leaf.pem").write_text(authority.issue(public_pem(new_key().public_key()), wanted, 30, NOW))
    (tmp_path / "root.pem").write_text(authority.pem)
    at = str(int((NOW + timedelta(days=1)).timestamp()))
    place = [*("-attime", at), "-CAfile", str(tmp_path / "root.pem"), str(tmp_path / "leaf.pem")]
    asked = openssl("verify", "-x509_strict", "-purpose", purpose, "-verify_ip", "198.18.0.11", *place)
    assert (asked.returncode == 0) == accepted, asked.stderr
    other = openssl("verify", "-purpose", "sslserver", "-verify_ip", "198.18.0.12", *place)
    assert other.returncode != 0


def test_nothing_it_issues_outlives_it(authority: Authority) -> None:
    late = NOW + timedelta(days=3600)
    leaf = read_chain(Text("", authority.issue(public_pem(new_key().public_key()), SITE, 397, late)))[0]
    assert leaf.not_valid_after_utc == authority.certificate.not_valid_after_utc


def test_a_good_certificate_is_left_alone_until_its_last_days(authority: Authority) -> None:
    public = public_pem(new_key().public_key())
    certificate = authority.issue(public, SITE, 397, NOW)

    def ask(days: int) -> str:
        return why_anew(certificate, public, SITE, authority, 30, NOW + timedelta(days=days))

    assert ask(0) == ask(366) == ""
    assert ask(368) == "it ends on 2027-12-24"


@pytest.mark.parametrize("change", ["nothing there", "garbage", "key", "authority", "names", "purpose"])
def test_a_certificate_that_does_not_fit_is_issued_anew(authority: Authority, tmp_path: Path, change: str) -> None:
    public = public_pem(new_key().public_key())
    certificate = {"nothing there": "", "garbage": "x"}.get(change, authority.issue(public, SITE, 397, NOW))
    asked = public_pem(new_key().public_key()) if change == "key" else public
    wanted = Wanted((*NAMES, "new.example.org") if change == "names" else NAMES, client=change == "purpose")
    asker = make(tmp_path / "other", "test", NOW) if change == "authority" else authority
    assert (
        why_anew(certificate, asked, wanted, asker, 30, NOW)
        == {
            "nothing there": "there is none",
            "garbage": "it cannot be read",
            "key": "its key is another one",
            "authority": "another authority issued it",
            "names": "it is for api.example.org, www.example.org, not for api.example.org, www.example.org, new.example.org",
            "purpose": "it is for another purpose",
        }[change]
    )


def test_hosts_of_another_authority_are_refused_with_both_fingerprints(authority: Authority, tmp_path: Path) -> None:
    other = make(tmp_path / "other", "test", NOW)
    assert foreign_authority("", None, tmp_path) == ""
    assert foreign_authority(authority.pem, authority, tmp_path) == ""
    said = foreign_authority(other.pem, authority, tmp_path)
    for each in (authority, other):
        assert each.certificate.fingerprint(hashes.SHA256()).hex()[:16] in said
    assert f"{tmp_path} has none" in foreign_authority(other.pem, None, tmp_path)


def seen(public: str, certificate: str, authority: str = "") -> dict[str, Any]:
    """Return what the host's module says about one site."""
    return {"places": {"sites/api": {"public_key": public, "certificate": certificate}}, "authority": authority}


def test_acme_keeps_the_pair_of_its_authority_and_replaces_half_of_one(authority: Authority, world: World) -> None:
    public = public_pem(world.key.public_key())
    ask: dict[str, Any] = {"days": 397, "renew_days": 30, "now": NOW}
    found = seen(public, world.leaf, authority.pem)
    assert plan_issued(found, {"sites/api": SITE}, authority, keep_foreign=True, **ask).files == {}
    assert (
        "sites/api/fullchain.pem" in plan_issued(found, {"sites/api": SITE}, authority, keep_foreign=False, **ask).files
    )
    half = seen(public_pem(new_key().public_key()), world.leaf, authority.pem)
    assert (
        "sites/api/fullchain.pem" in plan_issued(half, {"sites/api": SITE}, authority, keep_foreign=True, **ask).files
    )


def test_a_dry_run_without_an_authority_says_what_it_would_do(authority: Authority) -> None:
    ask: dict[str, Any] = {"days": 397, "renew_days": 30, "now": NOW, "keep_foreign": False}
    plan = plan_issued(seen("", ""), {"sites/api": SITE}, None, **ask)
    assert plan.why == [
        "sites/api: a new certificate, because there is none",
        "host: the certificate of the authority",
    ]
    assert plan.files == {}
    assert list(plan_issued(seen("", "", authority.pem), {}, authority, **ask).files) == []


# Pairs that are provided.


def test_a_good_pair_is_accepted_and_installed_once(world: World) -> None:
    key = private_pem(world.key)
    found, problems = read_provided(
        {"api": {"certificate": world.leaf + world.middle, "key": key}}, {"api": NAMES}, "roots.pem", world.base, NOW
    )
    assert problems == []
    first = plan_provided({"sites/api": {"public_key": "", "certificate": ""}}, found)
    assert first.files == {"sites/api/key.pem": key, "sites/api/fullchain.pem": world.leaf + world.middle}
    again = {"public_key": public_pem(world.key.public_key()), "certificate": world.leaf + world.middle}
    assert plan_provided({"sites/api": again}, found).files == {}


def test_a_provided_certificate_that_ends_soon_is_told(world: World) -> None:
    pair = {"certificate": world.of(world.key, end=20) + world.middle, "key": private_pem(world.key)}
    found, problems = read_provided({"api": pair}, {"api": NAMES}, "roots.pem", world.base, NOW)
    assert problems == []
    place = {"sites/api": {"public_key": "", "certificate": ""}}
    assert plan_provided(place, found).warnings == ["the certificate of api ends on 2026-12-12"]


def test_a_key_of_another_certificate_is_refused(world: World) -> None:
    assert world.problems(world.leaf + world.middle, private_pem(new_key())) == [
        "certificates_provided.api.key: found a key that does not belong to CN=api.example.org, expected the key of the first certificate in certificates_provided.api.certificate"
    ]


def test_a_chain_without_its_intermediate_is_refused(world: World) -> None:
    assert world.problems(world.leaf) == [
        "certificates_provided.api.certificate: found a chain that ends with CN=api.example.org, expected the certificate of its issuer, CN=Middle, after it, or that issuer among the trusted roots"
    ]


def test_a_chain_in_the_wrong_order_is_refused(world: World) -> None:
    assert world.problems(world.leaf + world.root + world.middle) == [
        "certificates_provided.api.certificate: found CN=Root as certificate 2, expected the one that issued certificate 1: CN=Middle"
    ]


def test_an_issuer_that_only_has_the_name_is_refused(world: World) -> None:
    imposter = issued(("Root", new_key()), "Middle", new_key())
    assert "found CN=Middle as certificate 2" in world.problems(world.leaf + imposter)[0]


def test_a_chain_may_end_with_its_root(world: World) -> None:
    assert world.problems(world.leaf + world.middle + world.root) == []


def test_a_certificate_that_signed_itself_needs_to_be_trusted(world: World) -> None:
    own = issued((NAMES[0], world.key), NAMES[0], world.key, names=NAMES)
    assert "found a chain that ends with CN=api.example.org" in world.problems(own)[0]
    (world.base / "roots.pem").write_text(own)
    assert world.problems(own) == []


def test_every_name_must_be_covered(world: World) -> None:
    assert world.problems(world.of(world.key, names=["api.example.org"]) + world.middle) == [
        "certificates_provided.api.certificate: found the names api.example.org, expected www.example.org among them"
    ]
    assert world.problems(world.of(world.key, names=["*.example.org"]) + world.middle) == []


@pytest.mark.parametrize(
    ("name", "covered"),
    [("api.example.org", True), ("a.b.example.org", False), ("example.org", False), ("API.example.org", True)],
)
def test_a_wildcard_stands_for_one_label(name: str, *, covered: bool) -> None:
    assert covers(["*.example.org"], name) == covered


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            {"end": -1, "begin": -9},
            "found the end of CN=api.example.org on 2026-11-21 12:00 UTC, expected one that is to come",
        ),
        ({"begin": 1}, "found the begin of CN=api.example.org on 2026-11-23 12:00 UTC, expected one that is past"),
    ],
)
def test_a_certificate_outside_of_its_time_is_refused(world: World, change: dict[str, int], expected: str) -> None:
    found = world.problems(world.of(world.key, **change) + world.middle)
    assert found == [f"certificates_provided.api.certificate: {expected}"]


def test_an_intermediate_that_has_ended_is_refused(world: World) -> None:
    old = issued(("Root", world.root_key), "Middle", world.middle_key, begin=-9, end=-1)
    assert "found the end of CN=Middle" in world.problems(world.leaf + old)[0]


def test_a_short_rsa_key_is_refused(world: World) -> None:
    short = rsa.generate_private_key(65537, 1024)  # noqa: S505  that is what is refused
    assert "found an RSA key of 1024 bits" in world.problems(world.of(short) + world.middle, private_pem(short))[0]


def test_an_encrypted_key_is_refused(world: World) -> None:
    (said,) = world.problems(world.leaf + world.middle, private_pem(world.key, b"secret"))
    assert "found a key that is encrypted with a passphrase" in said


@pytest.mark.parametrize("broken", ["certificate", "key"])
def test_what_is_no_pem_is_refused_without_being_shown(world: World, broken: str) -> None:
    kind = "CERTIFICATE" if broken == "certificate" else "PRIVATE KEY"
    garbage = f"-----BEGIN {kind}-----\nc2VjcmV0\n-----END {kind}-----\n"
    pair = {"certificate": world.leaf + world.middle, "key": private_pem(world.key), broken: garbage}
    found = world.problems(**pair)
    assert len(found) == 1
    assert found[0].startswith(f"certificates_provided.api.{broken}: found a ")
    assert "c2VjcmV0" not in found[0]


def test_a_key_file_that_others_can_read_is_refused(world: World) -> None:
    file = world.base / "api.key"
    file.write_text(private_pem(world.key))
    file.chmod(0o644)
    (world.base / "api.pem").write_text(world.leaf + world.middle)
    pair = {"certificate_file": "api.pem", "key_file": "api.key"}

    def ask() -> list[str]:
        return read_provided({"api": pair}, {"api": NAMES}, "roots.pem", world.base, NOW)[1]

    assert ask() == [
        f"certificates_provided.api.key_file: {file}: found mode 0644, expected 0600: others can read the key"
    ]
    file.chmod(0o600)
    assert ask() == []
    file.unlink()
    assert ask() == [
        f"certificates_provided.api.key_file: {file}: found No such file or directory, expected a file in PEM"
    ]


def test_every_mistake_in_what_is_provided_is_told_at_once(world: World) -> None:
    given = {
        "shop": {},
        "api": {"certificate": "x", "certificate_file": "y", "cert": "z"},
    }
    _, problems = read_provided(given, {"api": NAMES, "blog": NAMES[:1]}, "roots.pem", world.base, NOW)
    assert problems == [
        "certificates_provided.shop: found no app of this name, expected one of api, blog",
        "certificates_provided.api.cert: found an unknown key, expected one of certificate, certificate_file, key, key_file",
        "certificates_provided.api: found both of certificate and certificate_file, expected one",
        "certificates_provided.api: found neither of key and key_file, expected one",
        "certificates_provided.blog: found nothing, expected certificate and key of api.example.org",
    ]


# On the host.


def test_a_key_is_made_once_and_never_readable_by_others(tmp_path: Path) -> None:
    places = {"host": "cert.pem", "sites/api": "fullchain.pem"}
    dry = tls_places.look(tmp_path, places, ["host"], dry=True)
    assert (dry["made"], list(tmp_path.iterdir())) == (["host"], [])
    first = tls_places.look(tmp_path, places, ["host"], dry=False)
    assert first["made"] == ["host"]
    assert first["places"]["sites/api"] == {"public_key": "", "certificate": ""}
    assert (tmp_path / "host/key.pem").stat().st_mode & 0o777 == 0o600
    (tmp_path / "host/key.pem").chmod(0o644)
    again = tls_places.look(tmp_path, places, ["host"], dry=False)
    assert (again["made"], again["repaired"]) == ([], ["host"])
    assert (tmp_path / "host/key.pem").stat().st_mode & 0o777 == 0o600
    assert again["places"]["host"]["public_key"] == first["places"]["host"]["public_key"]
    (tmp_path / "host/key.pem").write_text("half of a ke")
    assert tls_places.look(tmp_path, places, ["host"], dry=False)["made"] == ["host"]


def test_files_are_installed_with_their_modes_and_strays_are_found(tmp_path: Path) -> None:
    tls_places.install(tmp_path, {"sites/api/key.pem": "k\n", "sites/api/fullchain.pem": "c\n"})
    found = {path.name: (path.read_text(), path.stat().st_mode & 0o777) for path in (tmp_path / "sites/api").iterdir()}
    assert found == {"key.pem": ("k\n", 0o600), "fullchain.pem": ("c\n", 0o644)}
    (tmp_path / "sites/old").mkdir()
    assert tls_places.strays(tmp_path / "sites", {"api"}) == [tmp_path / "sites/old"]
    assert tls_places.strays(tmp_path / "none", set()) == []


def test_every_app_becomes_a_site_with_its_names() -> None:
    wiring = imported("plugins/filter/wiring.py")
    app = {
        "name": "api",
        "wsgi": "api:app",
        "server_names": ["a.example"],
        "redirect_names": ["www.a.example"],
        "limits": {},
    }
    assert wiring.FilterModule().filters()["certificate_sites"]([app]) == [
        {"name": "api", "server_names": ["a.example", "www.a.example"]}
    ]


@pytest.mark.parametrize("file", ["playbooks/status.yml", "tests/support/hosts.py"])
def test_who_cannot_see_the_roles_defaults_repeats_them_right(file: str) -> None:
    given = defaults("certificates")
    text = (ROOT / file).read_text(encoding="utf-8")
    repeated = re.findall(r"(certificates_\w+) \| default\('([^']*)'", text)
    assert "certificates_mode" in dict(repeated)
    for name, value in repeated:
        assert given[name].startswith(value), name
