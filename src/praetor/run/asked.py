"""What this run was asked with `-e`, and why it is refused. On the controller; contacts no host."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from ansible import context
from ansible.errors import AnsibleError
from ansible.parsing.splitter import parse_kv
from ansible.utils.display import Display
from ansible.utils.vars import load_extra_vars

from .options import mistakes, options_of, unquoted, usage, variables_in

_ROOT = Path(__file__).resolve().parents[3]


def refusal(loader: Any, variables: Mapping[str, Any]) -> str:
    """Return why the values of `-e` end this run, or nothing. With `-e help=true` it prints the options of the playbook.

    Args:
        loader: Ansible's, which reads files that `-e` names.
        variables: Ansible's, of the host that the task runs for.
    """
    given = load_extra_vars(loader)
    playbooks = [Path(path).stem for path in context.CLIARGS.get("args", ())]
    if str(given.get("help", "")).lower() in {"true", "yes", "1"}:
        Display().display(usage(playbooks))
        return "This was the help; nothing was done."
    found = [unquoted(text) for text in map(str, context.CLIARGS.get("extra_vars", ())) if _is_split(text)]
    found = found or _mistakes(given, playbooks, variables)
    return "\n".join([*found, "Nothing was done. Options: -e help=true"]) if found else ""


def _mistakes(given: Mapping[str, Any], playbooks: list[str], variables: Mapping[str, Any]) -> list[str]:
    """What is wrong with the values. Files are read only where they decide: most runs have no option, or one of the playbook's own."""
    options = options_of(playbooks)
    if not given and not any(option.needed for option in options.values()):
        return []
    unknown = set(given) - set(options)
    inputs, mentioned = (_inputs(), _mentioned(variables)) if unknown else (set(), set())
    return mistakes(given, playbooks, inputs, mentioned, _inventory(variables))


def _is_split(text: str) -> bool:
    """Tell whether Ansible finds words without a name behind a `-e`."""
    return not text.startswith(("@", "{", "[")) and "_raw_params" in parse_kv(text)


def _inputs() -> set[str]:
    """The inputs of all roles."""
    found: set[str] = set()
    for path in _ROOT.glob("roles/*/meta/argument_specs.yml"):
        for spec in yaml.load(path.read_text(encoding="utf-8"), yaml.CSafeLoader)["argument_specs"].values():
            found |= set(spec.get("options") or {})
    return found


def _mentioned(variables: Mapping[str, Any]) -> set[str]:
    """The variables that are in the files of the inventories."""
    found: set[str] = set()
    for source in map(Path, variables.get("ansible_inventory_sources") or []):
        place = source if source.is_dir() else source.parent
        paths = {path for path in place.rglob("*.y*ml") if path.is_file()} | ({source} if source.is_file() else set())
        for path in paths:
            of_hosts = not {"group_vars", "host_vars"} & set(path.relative_to(place).parts)
            found |= variables_in(path.read_text(encoding="utf-8", errors="replace"), of_hosts=of_hosts)
    return found


def _inventory(variables: Mapping[str, Any]) -> dict[str, list[str]]:
    """The hosts by group, and the names of `apps`; none where they cannot be read, of which check_inventory tells."""
    groups = {name: list(hosts) for name, hosts in (variables.get("groups") or {}).items()}
    apps: object = []
    if hosts := groups.get("app_hosts"):
        with contextlib.suppress(AnsibleError):
            apps = variables["hostvars"][hosts[0]].get("apps")
    entries = [entry for entry in apps if isinstance(entry, dict)] if isinstance(apps, list) else []
    return {**groups, "apps": [str(entry["name"]) for entry in entries if "name" in entry]}
