"""What the inventory's `pgbackrest_s3` may say: the storage that has a second copy of the databases' backups. Pure Python."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import ValidationError

from .mistakes import describe
from .model import Must, Part, match, whole
from .shipped import authority_problem

NAME = "pgbackrest_s3"
SECRET = ("key", "key_secret", "passphrase")
SHORTEST = 16
"""Characters of a passphrase; pgBackRest takes any."""


def _endpoint_problem(value: str) -> str | None:
    if "://" in value or "/" in value:
        return "https is always used, and the bucket has a key"
    if ":" in value:
        return "a port has the key `port`"
    if re.fullmatch(r"[0-9.]+", value):
        return "pgBackRest finds no address in a certificate"
    return None if re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?", value) else ""


def _secret_problem(value: str) -> str | None:
    return None if value.isprintable() and value == value.strip() and value else ""


class S3(Part):
    """Where the second repository is, and what opens it."""

    bucket: Annotated[str, match(re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]"), "the name of a bucket that exists")]
    path: Annotated[str, match(re.compile(r"/[A-Za-z0-9._/-]*"), "a path in the bucket, such as /prod")] = "/"
    endpoint: Annotated[str, Must("the name of the server, such as s3.example.com", _endpoint_problem)]
    port: Annotated[int, whole(1, 65535)] = 443
    region: Annotated[
        str, match(re.compile(r"[A-Za-z0-9-]+"), "the region; any word for storage that has none, such as us-east-1")
    ]
    key: Annotated[str, Must("the name of an access key", _secret_problem)]
    key_secret: Annotated[str, Must("the secret of the access key, vaulted", _secret_problem)]
    passphrase: Annotated[
        str,
        Must(
            f"a vaulted passphrase of at least {SHORTEST} characters",
            lambda value: "shorter than that" if len(value) < SHORTEST else _secret_problem(value),
        ),
    ]
    authority_file: Annotated[str, Must("a PEM file on the controller")] = ""
    uri_style: Annotated[Literal["host", "path"], Must("host or path")] = "host"
    keep_full: Annotated[int, whole(1, 9_999_999)] = 4


def mistakes(
    given: Mapping[str, object], groups: Mapping[str, list[str]], passphrases: Mapping[str, object], root: Path
) -> list[str]:
    """Say what is wrong with the second repository: place, found, expected. No secret is shown.

    Args:
        given: the variable as each host that has it has it, as plain data.
        groups: the inventory's.
        passphrases: the passphrase of the backup host's own repository as each host has it, None where it makes one itself.
        root: against which a path is taken.

    """
    backups = groups.get("backup_hosts", [])
    elsewhere = sorted(host for host in given if host not in backups and given[host])
    if not backups or not groups.get("database_hosts"):
        missing = "backup_hosts" if not backups else "database_hosts"
        return (
            [f"{NAME}: found it, expected a host in {missing} too: it has the backups of databases"]
            if elsewhere
            else []
        )
    value = given.get(backups[0])
    if not value:
        what = f"found it for {', '.join(elsewhere)} and not for {backups[0]}"
        return [f"{NAME}: {what}, expected it in group_vars of all or of backup_hosts"] if elsewhere else []
    if not isinstance(value, Mapping):
        return [
            f"{NAME}: found {describe(value, hide=True)}, expected a mapping with the keys {', '.join(S3.model_fields)}"
        ]
    found = []
    try:
        S3.model_validate(dict(value))
    except ValidationError as error:
        for each in error.errors():
            found.append(
                _mistake(str(each["loc"][0]), each["type"], each["input"], str(each.get("ctx", {}).get("error", "")))
            )
    if value.get("passphrase") and value.get("passphrase") == passphrases.get(backups[0]):
        found.append(
            f"{NAME}.passphrase: found pgbackrest_passphrase, expected another one: who reads one repository is not to read both"
        )
    if (name := value.get("authority_file")) and isinstance(name, str) and (problem := authority_problem(root / name)):
        found.append(
            f"{NAME}.authority_file: found {name}, {problem}, expected the authority of the server's certificate"
        )
    return found


def _mistake(key: str, kind: str, value: object, why: str) -> str:
    if kind == "extra_forbidden":
        near = difflib.get_close_matches(key, list(S3.model_fields), n=1, cutoff=0.65)
        hint = f"; did you mean {near[0]}?" if near else ""
        return f"{NAME}.{key}: found an unknown key, expected one of {', '.join(S3.model_fields)}{hint}"
    expected = next(one.be for one in S3.model_fields[key].metadata if isinstance(one, Must))
    found = "nothing" if kind == "missing" else describe(value, hide=key in SECRET) + (f" ({why})" if why else "")
    return f"{NAME}.{key}: found {found}, expected {expected}"


def bare(
    given: Mapping[str, object], groups: Mapping[str, list[str]], vaulted: Mapping[str, frozenset[str]]
) -> list[str]:
    """Say which secrets of the second repository stand in clear text."""
    backups = groups.get("backup_hosts", [])
    value = given.get(backups[0]) if backups else None
    if not isinstance(value, Mapping):
        return []
    clear = [
        key for key in ("key_secret", "passphrase") if key in value and key not in vaulted.get(backups[0], frozenset())
    ]
    return [f"{NAME}.{key} is a secret in clear text: encrypt it with ansible-vault" for key in clear]
