"""Refuses values of `-e` that nothing reads; contacts no host. The options stand in `praetor.run.options`."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import yaml
from ansible import context
from ansible.errors import AnsibleError
from ansible.parsing.splitter import parse_kv
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible.utils.vars import load_extra_vars

from praetor.run.options import mistakes, unquoted, usage, variables_in

_ROOT = Path(__file__).resolve().parents[2]


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core has no types
    """Takes no arguments. Fails for an option that the playbook does not have; with `-e help=true` prints those that it has, and ends."""

    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True
    _VALID_ARGS: frozenset[str] = frozenset()

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Check."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        given = load_extra_vars(self._loader)
        playbooks = [Path(path).stem for path in context.CLIARGS.get("args", ())]
        if str(given.get("help", "")).lower() in {"true", "yes", "1"}:
            Display().display(usage(playbooks))
            return {**result, "failed": True, "msg": "This was the help; nothing was done."}
        found = [unquoted(text) for text in map(str, context.CLIARGS.get("extra_vars", ())) if _is_split(text)]
        if not found:
            found = mistakes(given, playbooks, _inputs(), _mentioned(task_vars or {}), _inventory(task_vars or {}))
        if found:
            return {**result, "failed": True, "msg": "\n".join([*found, "Nothing was done. Options: -e help=true"])}
        return {**result, "changed": False}


def _is_split(text: str) -> bool:
    """Tell whether Ansible finds words without a name behind a `-e`."""
    return not text.startswith(("@", "{", "[")) and "_raw_params" in parse_kv(text)


def _inputs() -> set[str]:
    """The inputs of all roles."""
    found: set[str] = set()
    for path in _ROOT.glob("roles/*/meta/argument_specs.yml"):
        # The loader in C: each run with an option reads them.
        for spec in yaml.load(path.read_text(encoding="utf-8"), yaml.CSafeLoader)["argument_specs"].values():
            found |= set(spec.get("options") or {})
    return found


def _mentioned(variables: dict[str, Any]) -> set[str]:
    """The variables that are in the files of the inventories."""
    found: set[str] = set()
    for source in map(Path, variables.get("ansible_inventory_sources") or []):
        place = source if source.is_dir() else source.parent
        paths = {path for path in place.rglob("*.y*ml") if path.is_file()} | ({source} if source.is_file() else set())
        for path in paths:
            of_hosts = not {"group_vars", "host_vars"} & set(path.relative_to(place).parts)
            found |= variables_in(path.read_text(encoding="utf-8", errors="replace"), of_hosts=of_hosts)
    return found


def _inventory(variables: dict[str, Any]) -> dict[str, list[str]]:
    """The hosts by group, and the names of `apps`; none where they cannot be read, of which check_inventory tells."""
    groups = {name: list(hosts) for name, hosts in (variables.get("groups") or {}).items()}
    apps: object = []
    if hosts := groups.get("app_hosts"):
        with contextlib.suppress(AnsibleError):
            apps = variables["hostvars"][hosts[0]].get("apps")
    entries = [entry for entry in apps if isinstance(entry, dict)] if isinstance(apps, list) else []
    return {**groups, "apps": [str(entry["name"]) for entry in entries if "name" in entry]}
