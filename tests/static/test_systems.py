"""The systems that hosts may run: what differs from one to the other has a value for each, or a host gets none in silence."""

import re
from pathlib import Path
from typing import Any

import pytest
from project import ROOT, load

from praetor.build import debian, requirements

SYSTEMS = [
    re.fullmatch(r"(\w+) (\d+) on x86_64", each) for each in load(ROOT / "roles/base/vars/main.yml")["__base_supported"]
]
NAMES = {system[1] for system in SYSTEMS if system}
RELEASES = {system[2] for system in SYSTEMS if system}


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


def test_the_build_has_a_python_of_each_system_and_a_tree_to_compile_in() -> None:
    assert len(requirements.PYTHONS) == len(RELEASES), (
        "src/praetor/build/requirements.py PYTHONS: the Python of each system"
    )
    assert set(requirements.EXACT) == set(requirements.PYTHONS.values()), "src/praetor/build/requirements.py EXACT"
    assert set(debian.SUITES) == set(requirements.PYTHONS), "src/praetor/build/debian.py SUITES"
    specs = load(ROOT / "roles/lab_host/meta/argument_specs.yml")["argument_specs"]["main"]["options"]
    assert set(debian.SUITES.values()) == set(specs["lab_host_suite"]["choices"]), "roles/lab_host: the lab's machines"


def test_security_updates_are_named_for_each_distribution() -> None:
    text = Path(ROOT, "roles/base/templates/52praetor-upgrades").read_text(encoding="utf-8")
    assert set(re.findall(r'"origin=(\w+),', text)) == NAMES, (
        "roles/base/templates/52praetor-upgrades: where updates come from"
    )
