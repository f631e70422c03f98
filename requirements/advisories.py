"""Holds locked requirements against a copy of an advisory database, offline.

    python requirements/advisories.py ../advisory-database requirements/controller.txt app/requirements.txt

The database is a directory of advisories in the OSV schema, YAML or JSON, as github.com/pypa/advisory-database is. Its age is that of
its youngest advisory: an old list that finds nothing has found nothing out.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

PIN = re.compile(r"^([A-Za-z0-9][\w.-]*)(?:\[[^\]]*\])?==([^\s;\\]+)")


class Finding(NamedTuple):
    """A locked package that an advisory is about."""

    package: str
    version: str
    advisory: str
    fixed: str
    where: str


def locked(path: Path) -> list[tuple[str, str]]:
    """Return name and version of every pinned line."""
    found = (PIN.match(line) for line in path.read_text(encoding="utf-8").splitlines())
    return [(canonicalize_name(match[1]), match[2]) for match in found if match]


def advisories(directory: Path) -> Iterator[dict[str, Any]]:
    """Read every advisory; one that was withdrawn is none."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    for path in sorted(directory.rglob("*")):
        if path.suffix in {".yaml", ".yml", ".json"} and path.is_file() and not path.name.startswith("."):
            text = path.read_text(encoding="utf-8")
            entry = json.loads(text) if path.suffix == ".json" else yaml.load(text, Loader=loader)  # noqa: S506
            if isinstance(entry, dict) and "affected" in entry and not entry.get("withdrawn"):
                yield entry


def is_affected(version: str, affected: dict[str, Any]) -> tuple[bool, str]:
    """Whether a version is among those that an advisory names, and what fixes it."""
    fixed = ""
    try:
        mine = Version(version)
    except InvalidVersion:
        return version in (affected.get("versions") or []), fixed
    for span in affected.get("ranges") or []:
        if span.get("type") != "ECOSYSTEM":
            continue
        inside = False
        for event in span.get("events") or []:
            if "introduced" in event and mine >= Version(
                event["introduced"] if event["introduced"] != "0" else "0.dev0"
            ):
                inside, fixed = True, ""
            elif "fixed" in event and inside:
                inside, fixed = mine < Version(event["fixed"]), str(event["fixed"])
            elif "last_affected" in event and inside:
                inside = mine <= Version(event["last_affected"])
            if inside and fixed:
                return True, fixed
        if inside:
            return True, fixed
    return version in (affected.get("versions") or []), fixed


def date_of(entry: dict[str, Any]) -> datetime:
    """When an advisory was last changed."""
    told = entry.get("modified") or entry.get("published") or "1970-01-01T00:00:00Z"
    found = told if isinstance(told, datetime) else datetime.fromisoformat(str(told))
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def audit(directory: Path, files: list[Path]) -> tuple[list[Finding], datetime | None]:
    """Return what is affected, and the date of the youngest advisory."""
    wanted: dict[str, dict[str, str]] = {}
    for path in files:
        for name, version in locked(path):
            wanted.setdefault(name, {}).setdefault(version, path.as_posix())
    findings, youngest = set(), None
    for entry in advisories(directory):
        youngest = max(youngest or date_of(entry), date_of(entry))
        for affected in entry["affected"]:
            package = affected.get("package", {})
            if package.get("ecosystem") != "PyPI":
                continue
            name = canonicalize_name(package["name"])
            for version, where in wanted.get(name, {}).items():
                hit, fixed = is_affected(version, affected)
                if hit:
                    alias = next((also for also in entry.get("aliases") or [] if also.startswith("CVE-")), "")
                    findings.add(Finding(name, version, " ".join(filter(None, [entry["id"], alias])), fixed, where))
    return sorted(findings), youngest


def main() -> int:
    """Print what was found; 1 if anything was, 2 if the list is of no use."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("database", type=Path)
    parser.add_argument("requirements", type=Path, nargs="+")
    parser.add_argument("--max-age-days", type=int, default=30, help="an older list is refused")
    parser.add_argument(
        "--accept", action="append", default=[], help="an advisory that was judged and does not matter here"
    )
    arguments = parser.parse_args()
    findings, youngest = audit(arguments.database, arguments.requirements)
    if youngest is None:
        wanted = "expected a copy of github.com/pypa/advisory-database"
        print(f"{arguments.database}: found no advisories, {wanted}", file=sys.stderr)  # noqa: T201
        return 2
    packages = {pin for path in arguments.requirements for pin in locked(path)}
    open_ones = [finding for finding in findings if finding.advisory.split()[0] not in arguments.accept]
    for finding in open_ones:
        remedy = f"fixed in {finding.fixed}" if finding.fixed else "no fixed version is named"
        print(f"{finding.package} {finding.version}: {finding.advisory}, {remedy} ({finding.where})")  # noqa: T201
    age = (datetime.now(UTC) - youngest).days
    print(f"{len(packages)} locked packages, {len(open_ones)} advisories, list of {youngest.date()} ({age} days old)")  # noqa: T201
    if open_ones:
        return 1
    if age > arguments.max_age_days:
        print(f"the list is older than {arguments.max_age_days} days: update it", file=sys.stderr)  # noqa: T201
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
