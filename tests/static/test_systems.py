"""The systems that hosts may run: what differs from one to the other has a value for each, or a host gets none in silence."""

import re
from pathlib import Path
from typing import Any

import pytest
from project import ROOT, load

from praetor.build.systems import SYSTEMS as BUILT_FOR

SYSTEMS = [each.replace(" on", "").split() for each in load(ROOT / "roles/base/vars/main.yml")["__base_supported"]]
NAMES = {name for name, _, _ in SYSTEMS}
RELEASES = {release for _, release, _ in SYSTEMS}
SUITES = {"12": "bookworm", "13": "trixie"}


def table(place: str, name: str) -> set[str]:
    """Return the releases for which a file has a value."""
    found: Any = load(ROOT / place)[name] if name else load(ROOT / place)
    return set(re.findall(r"'(\d+)':", found)) if isinstance(found, str) else {key for key in found if key.isdecimal()}


@pytest.mark.parametrize(
    ("place", "name"),
    [
        ("roles/ssh/vars/main.yml", "__ssh_kex"),
        ("roles/postgresql/vars/main.yml", "__postgresql_version"),
        ("roles/pgbackrest/vars/main.yml", "__pgbackrest_version"),
        ("tests/hosts/minimum_versions.yml", ""),
    ],
)
def test_what_differs_between_systems_is_said_of_each(place: str, name: str) -> None:
    assert table(place, name) == RELEASES, f"{place} {name}: a value for each system of roles/base/vars/main.yml"


def test_the_build_knows_each_system() -> None:
    expected = {(SUITES[release], machine) for _, release, machine in SYSTEMS}
    assert {(each.suite, each.machine) for each in BUILT_FOR.values()} == expected, "src/praetor/build/systems.py"


def test_the_lab_has_machines_of_each_release() -> None:
    specs = load(ROOT / "roles/lab_host/meta/argument_specs.yml")["argument_specs"]["main"]["options"]
    assert set(specs["lab_host_suite"]["choices"]) == {each.suite for each in BUILT_FOR.values()}, "roles/lab_host"


def test_security_updates_are_named_for_each_distribution() -> None:
    text = Path(ROOT, "roles/base/templates/52praetor-upgrades").read_text(encoding="utf-8")
    assert set(re.findall(r'"origin=(\w+),', text)) == NAMES, (
        "roles/base/templates/52praetor-upgrades: where updates come from"
    )
