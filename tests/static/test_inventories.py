"""The inventories of this repository, without a host."""

import difflib
import ipaddress
import json
from pathlib import Path
from typing import Any

import pytest
from project import INVENTORIES, ROLES, ROOT, Vaulted, ansible, defaults, files_of, load, options

DECLARED = {name: role for role in ROLES for name in options(role)}
# Variables that belong to the project, not to one role.
COMMON = {"apps", "release_hooks", "release_notify"}
SECRET_WORDS = ("password", "secret", "token", "private_key")
DOCUMENTATION = [
    ipaddress.ip_network(net) for net in ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32")
]


def variables(inventory: str) -> list[tuple[Path, str, Any]]:
    """Return each variable that an inventory sets, with its file."""
    base = f"inventories/{inventory}"
    found = []
    for path in files_of(f"{base}/group_vars/**/*.yml", f"{base}/host_vars/**/*.yml"):
        found += [(path, key, value) for key, value in (load(path) or {}).items()]
    hosts = ROOT / base / "hosts.yml"
    return found + [(hosts, key, value) for key, value in _host_variables(load(hosts))]


def _host_variables(groups: Any) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for group in (groups or {}).values():
        found += (group or {}).get("vars", {}).items()
        for host in ((group or {}).get("hosts") or {}).values():
            found += (host or {}).items()
        found += _host_variables((group or {}).get("children"))
    return found


def values_of(value: Any, inside: str = "") -> list[tuple[str, Any]]:
    """Return each single value of a variable, with the keys above it."""
    if isinstance(value, dict):
        return [pair for key, inner in value.items() for pair in values_of(inner, f"{inside}.{key}")]
    if isinstance(value, list):
        return [pair for inner in value for pair in values_of(inner, inside)]
    return [(inside, value)]


def test_there_are_a_lab_and_two_examples() -> None:
    assert {"lab", "prod", "staging"} <= set(INVENTORIES)


@pytest.mark.parametrize("inventory", INVENTORIES)
def test_ansible_reads_it_without_a_warning_and_finds_app_hosts(inventory: str) -> None:
    done = ansible("ansible-inventory", "-i", f"inventories/{inventory}", "--list")
    assert (done.returncode, done.stderr) == (0, "")
    # The image is filled like one host.
    assert len(json.loads(done.stdout)["app_hosts"]["hosts"]) >= (1 if inventory == "container" else 2)


@pytest.mark.parametrize("inventory", INVENTORIES)
def test_it_passes_the_check(inventory: str) -> None:
    done = ansible("ansible-playbook", "playbooks/check.yml", "-i", f"inventories/{inventory}")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("inventory", INVENTORIES)
def test_every_key_is_an_input_of_a_role(inventory: str) -> None:
    known = DECLARED.keys() | COMMON
    for path, key, _value in variables(inventory):
        if key.startswith(("ansible_", "vault_")):
            continue
        near = difflib.get_close_matches(key, known, n=1)
        assert key in known, f"{path.relative_to(ROOT)}: {key} is no input of a role; did you mean {near}?"


@pytest.mark.parametrize("inventory", INVENTORIES)
def test_it_sets_only_what_differs_from_the_defaults(inventory: str) -> None:
    same = [
        f"{path.relative_to(ROOT)}: {key}"
        for path, key, value in variables(inventory)
        if key in DECLARED and value == defaults(DECLARED[key]).get(key, ...)
    ]
    assert same == []


@pytest.mark.parametrize("inventory", INVENTORIES)
def test_secrets_are_encrypted(inventory: str) -> None:
    for path, name, variable in variables(inventory):
        for inside, value in values_of(variable, name):
            words = inside.lower().rpartition(".")[2]
            secret = ".secrets." in inside or any(word in words for word in SECRET_WORDS)
            if secret and not words.endswith("_file"):
                assert isinstance(value, Vaulted), f"{path.relative_to(ROOT)}: {inside} is not vaulted"
            if isinstance(value, Vaulted):
                assert value.startswith("$ANSIBLE_VAULT;"), f"{path.relative_to(ROOT)}: {inside}"


@pytest.mark.parametrize("inventory", ["prod", "staging"])
def test_an_example_names_no_address_that_could_be_someones(inventory: str) -> None:
    addresses = [value for _path, key, value in variables(inventory) if key == "ansible_host"]
    assert addresses
    for address in addresses:
        assert any(ipaddress.ip_address(address) in network for network in DOCUMENTATION), address


@pytest.mark.parametrize("inventory", ["prod", "staging"])
def test_an_example_shows_a_secret(inventory: str) -> None:
    assert any(
        isinstance(value, Vaulted)
        for _path, name, variable in variables(inventory)
        for _, value in values_of(variable, name)
    )


def test_every_inventory_of_lab_machines_logs_in_the_same_way() -> None:
    found = files_of("inventories/*/group_vars/all/ansible.yml", "molecule/*/inventory/group_vars/all/ansible.yml")
    texts = {path.read_text(encoding="utf-8") for path in found}
    assert len({text for text in texts if "praetor-lab" in text}) == 1
