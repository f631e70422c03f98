"""The second repository of backups: half of what it needs, or what nobody could use, is refused before a host is contacted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from project import ROOT

from praetor.inventory.storage import S3, bare, mistakes

GROUPS = {"database_hosts": ["db1", "db2"], "backup_hosts": ["backup1"]}
WHOLE: dict[str, Any] = {
    "bucket": "acme-backups",
    "endpoint": "s3.example.com",
    "region": "eu-central-1",
    "key": "AKIA",
    "key_secret": "so secret that nobody knows",
    "passphrase": "a sentence that is on paper",
}


def said(value: object, groups: dict[str, list[str]] | None = None, own: str = "", root: Path = Path()) -> list[str]:
    """Check a value that all hosts have."""
    return mistakes(dict.fromkeys(("db1", "backup1"), value), groups or GROUPS, {"backup1": own}, root)


@pytest.mark.parametrize("value", [None, {}, WHOLE, {**WHOLE, "port": 9000, "uri_style": "path", "path": "/prod/eu"}])
def test_none_and_a_whole_one_are_fine(value: object) -> None:
    assert said(value) == []


@pytest.mark.parametrize("key", list(WHOLE))
def test_half_of_it_is_refused(key: str) -> None:
    [line] = said({name: value for name, value in WHOLE.items() if name != key})
    assert line.startswith(f"pgbackrest_s3.{key}: found nothing, expected ")
    [line] = said({**WHOLE, key: ""})
    assert line.startswith(f"pgbackrest_s3.{key}: found ")


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"endpoint": "https://s3.example.com"}, 'endpoint: found "https://s3.example.com" (https is always used'),
        ({"endpoint": "s3.example.com:9000"}, "a port has the key `port`"),
        (
            {"endpoint": "192.0.2.9"},
            'found "192.0.2.9" (pgBackRest finds no address in a certificate), expected the name',
        ),
        ({"bucket": "Backups"}, 'bucket: found "Backups", expected the name of a bucket'),
        ({"path": "prod"}, 'path: found "prod", expected a path in the bucket, such as /prod'),
        ({"port": "443"}, 'port: found "443", expected a whole number from 1 to 65535'),
        ({"uri_style": "virtual"}, 'uri_style: found "virtual", expected host or path'),
        ({"verify": False}, "verify: found an unknown key, expected one of bucket"),
        ({"regoin": "eu"}, "did you mean region?"),
        ({"key_secret": "two\nlines"}, "key_secret: found a string that is not shown, expected the secret"),
        (
            {"passphrase": "abc-123"},
            "passphrase: found a string that is not shown (shorter than that), expected a vaulted passphrase",
        ),
        ({"authority_file": "none.pem"}, "authority_file: found none.pem, which is no file with certificates"),
        ({"keep_full": 0}, "keep_full: found 0, expected a whole number"),
    ],
)
def test_what_would_not_work_is_refused_and_no_secret_is_shown(
    change: dict[str, Any], line: str, tmp_path: Path
) -> None:
    [found] = said({**WHOLE, **change}, root=tmp_path)
    assert line in found
    assert not any(
        str(value) in found for key, value in {**WHOLE, **change}.items() if key in {"key_secret", "passphrase"}
    )


def test_one_passphrase_for_both_repositories_is_refused() -> None:
    [line] = said(WHOLE, own=WHOLE["passphrase"])
    assert "found pgbackrest_passphrase, expected another one" in line
    assert WHOLE["passphrase"] not in line


def test_what_no_host_would_use_is_refused() -> None:
    assert "expected a host in backup_hosts too" in said(WHOLE, {"database_hosts": ["db1"]})[0]
    assert "expected a host in database_hosts too" in said(WHOLE, {"backup_hosts": ["backup1"]})[0]
    [line] = mistakes({"db1": WHOLE, "backup1": None}, GROUPS, {}, Path())
    assert "found it for db1 and not for backup1, expected it in group_vars of all or of backup_hosts" in line
    # The databases take the backup host's.
    assert mistakes({"db1": None, "backup1": WHOLE}, GROUPS, {}, Path()) == []
    assert "expected a mapping with the keys bucket" in said(["bucket"])[0]


def test_secrets_in_clear_text_are_warned_of() -> None:
    given = {"backup1": WHOLE}
    assert len(bare(given, GROUPS, {"backup1": frozenset({"passphrase"})})) == 1
    assert bare(given, GROUPS, {"backup1": frozenset({"passphrase", "key_secret"})}) == []
    assert bare({}, GROUPS, {}) == []


def test_the_roles_description_has_the_same_keys() -> None:
    specs = yaml.safe_load((ROOT / "roles/pgbackrest/meta/argument_specs.yml").read_text(encoding="utf-8"))
    assert list(specs["argument_specs"]["main"]["options"]["pgbackrest_s3"]["options"]) == list(S3.model_fields)
