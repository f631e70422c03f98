"""Checks the inventory's `apps` on the controller, before any host is contacted.

The rules and words are in `praetor.inventory`; here is only what needs Ansible:
templating, decryption, and the file and line that each value came from.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible import constants
from ansible.errors import AnsibleError
from ansible.parsing.vault import VaultLib, VaultSecret
from ansible.plugins.action import ActionBase

from praetor.inventory.balancers import BalancerVariables, CheckedApp
from praetor.inventory.balancers import problems as balancer_problems
from praetor.inventory.check import Checked, Problem, Where, check_apps, differences, missing, path_text

try:
    from ansible._internal._datatag._tags import Origin, VaultedValue
except ImportError:  # internal to ansible-core: without it the messages lack file and line
    Origin = VaultedValue = None


OTHER_TIERS = ("app_hosts", "monitoring_hosts", "database_hosts", "backup_hosts")
_EXAMPLE_WARNING = (
    "The secrets of this inventory open with the example password, which everyone can read. "
    "Encrypt them with your own: inventories/README.md."
)


class _Reader:
    """Turns a variable into plain data, and remembers where each value came from and what was vaulted."""

    def __init__(self, templar: Any) -> None:
        self._templar = templar
        self.origins: dict[Where, tuple[str, int]] = {}
        self.vaulted: set[Where] = set()
        self.encrypted: list[Any] = []
        self.bare: list[Where] = []
        self.problems: list[Problem] = []

    def read(self, value: Any, where: Where = ()) -> Any:
        """Return `value` as plain data; what cannot be resolved becomes a problem and an empty string."""
        self.note(value, where)
        if isinstance(value, Mapping):
            result = {}
            for key, inner in value.items():
                self.note(key, (*where, key))
                result[self._native(key)] = self.read(inner, (*where, key))
            return result
        if isinstance(value, list | tuple):
            return [self.read(inner, (*where, index)) for index, inner in enumerate(value)]
        encrypted = type(value).__name__ == "EncryptedString"
        if encrypted:
            self.encrypted.append(value)
        try:
            resolved = self._templar.template(value)
        except AnsibleError as error:
            self.vaulted.add(where)
            self.problems.append(_unresolved(where, encrypted=encrypted, error=error))
            return ""
        if encrypted or (VaultedValue is not None and VaultedValue.is_tagged_on(resolved)):
            self.vaulted.add(where)
        elif where[1:2] == ("secrets",) and resolved == value:
            self.bare.append(where)
        if isinstance(resolved, Mapping | list | tuple):
            return self.read(resolved, where)
        return self._native(resolved)

    def origin(self, where: Where) -> tuple[str, int]:
        """Return file and line of a value, or of the nearest thing around it; empty and 0 if unknown."""
        for length in range(len(where), -1, -1):
            if found := self.origins.get(where[:length]):
                return found
        return "", 0

    def note(self, value: Any, where: Where) -> None:
        """Remember where a value came from, unless a place closer to it is known."""
        tag = Origin.get_tag(value) if Origin is not None else None
        if tag is not None and tag.path and where not in self.origins:
            path = Path(tag.path)
            shown = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
            self.origins[where] = str(shown), tag.line_num or 0

    @staticmethod
    def _native(value: Any) -> Any:
        """Strip Ansible's tags off a scalar."""
        for kind in (str, int, float):
            if isinstance(value, kind) and not isinstance(value, bool):
                return kind(value)
        return value


def _unresolved(where: Where, *, encrypted: bool, error: AnsibleError) -> Problem:
    reason = str(error).partition("\n")[0]
    if encrypted or "decrypt" in reason:
        return Problem(
            where,
            "a vaulted value that cannot be decrypted",
            "the vault's password: --vault-password-file FILE, or vault_password_file in ansible.cfg",
        )
    return Problem(where, f"a template that cannot be resolved ({reason})", "a variable that is defined")


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core has no types
    """Returns `apps` with every default filled in, `secrets` by app name, and the project's `root`."""

    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True
    _supports_diff = False
    _VALID_ARGS: frozenset[str] = frozenset()

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Check the `apps` of the first host of the play, and that all hosts agree."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        variables = task_vars or {}
        host: str = variables["inventory_hostname"]
        app_hosts = variables["groups"].get("app_hosts", [])
        if not app_hosts:
            sources = ", ".join(variables["ansible_inventory_sources"])
            expected = "expected at least one host in the group app_hosts"
            return {**result, "failed": True, "msg": f"groups.app_hosts: found no host in {sources}, {expected}"}
        hosts = [found for found in variables["ansible_play_hosts_all"] if found in app_hosts]
        if host not in hosts:
            return {**result, "skipped": True, "skip_reason": "this run leaves all app hosts out"}
        # A path source is relative to the project, which is where ansible.cfg is.
        root = Path(constants.CONFIG_FILE).parent if constants.CONFIG_FILE else Path(variables["playbook_dir"]).parent
        reader = _Reader(self._templar)
        if "apps" not in variables:
            message, near = missing(variables)
            reader.note(variables.get(near) if near else None, ())
            return self._failed(result, [_line(reader.origin(()), message)])
        data = reader.read(variables["apps"])
        checked = check_apps(data, root, frozenset(reader.vaulted))
        others = [other for other in hosts if other != host]
        # Hosts share most of their files, so they share mistakes.
        found = [*_mistakes(reader, checked), *self._of_others(others, reader, data, root, variables)]
        lines = list(dict.fromkeys(found)) or self._balancers(variables, checked.apps)
        if lines:
            return self._failed(result, lines)
        result["warnings"] = self._warnings(reader, root)
        result.update(
            apps=checked.apps,
            secrets=checked.secrets,
            root=str(root),
            _ansible_no_log=bool(any(checked.secrets.values())),
        )
        return result

    def _of_others(
        self, others: list[str], reader: _Reader, data: object, root: Path, variables: dict[str, Any]
    ) -> list[str]:
        """Return what is wrong with the `apps` of the play's other hosts, and where hosts do not agree."""
        lines: list[str] = []
        everyone = {variables["inventory_hostname"]: data}
        for other in others:
            read = _Reader(self._templar)
            try:
                everyone[other] = read.read(variables["hostvars"][other].get("apps"))
            except AnsibleError as error:
                if not reader.problems:  # else it has the same cause
                    reason = f"found what cannot be resolved ({error.message}), expected a list of apps"
                    lines.append(f"apps of {other}: {reason}")
                continue
            if everyone[other] != data:
                lines += _mistakes(read, check_apps(everyone[other], root, frozenset(read.vaulted)))
        return lines + differences(everyone)

    def _warnings(self, reader: _Reader, root: Path) -> list[str]:
        """Return what is allowed, but hardly intended."""
        found = [
            _line(reader.origin(where), f"{path_text(where)} is a secret in clear text: encrypt it with ansible-vault")
            for where in reader.bare
        ]
        if any(self._opens_with_example(value, root) for value in reader.encrypted):
            found.append(_EXAMPLE_WARNING)
        return found

    @staticmethod
    def _opens_with_example(encrypted: Any, root: Path) -> bool:
        """Tell whether the password that this repository publishes opens a vaulted value."""
        example = root / "inventories" / "example-vault-password"
        if not example.is_file() or not hasattr(encrypted, "_ciphertext"):
            return False
        try:
            VaultLib([("example", VaultSecret(example.read_bytes().strip()))]).decrypt(encrypted._ciphertext)  # noqa: SLF001
        except AnsibleError:
            return False
        return True

    @staticmethod
    def _balancers(variables: dict[str, Any], apps: list[dict[str, Any]]) -> list[str]:
        """Return why the inventory's balancers cannot work."""
        groups, hostvars = variables["groups"], variables["hostvars"]
        balancers = groups.get("balancer_hosts", [])
        told: dict[str, BalancerVariables] = {
            host: {
                "ansible_host": str(hostvars[host].get("ansible_host", host)),
                "keepalived_addresses": [str(held) for held in hostvars[host].get("keepalived_addresses", [])],
                "keepalived_router_id": int(hostvars[host].get("keepalived_router_id", 51)),
            }
            for host in balancers
        }
        elsewhere = {host for tier in OTHER_TIERS for host in groups.get(tier, [])}
        mode = str(hostvars[balancers[0]].get("certificates_mode", "internal")) if balancers else ""
        checked: list[CheckedApp] = [
            {"name": app["name"], "path": app["health"]["path"], "status": app["health"]["status"]} for app in apps
        ]
        return balancer_problems(told, elsewhere, checked, mode)

    @staticmethod
    def _failed(result: dict[str, Any], lines: list[str]) -> dict[str, Any]:
        count = "1 mistake" if len(lines) == 1 else f"{len(lines)} mistakes"
        # Ansible prints `msg` twice, so the mistakes have a separate key; the last newline keeps their lines whole.
        message = f"{count} in the inventory's apps. No host was contacted."
        result.update(failed=True, msg=message, mistakes="\n".join(lines) + "\n")
        return result


def _mistakes(reader: _Reader, checked: Checked) -> list[str]:
    """Every mistake in what was read, with its place; what could not be resolved is one, and nothing else is said of it."""
    unresolved = {problem.where for problem in reader.problems}
    problems = [*reader.problems, *(problem for problem in checked.problems if problem.where not in unresolved)]
    problems.sort(key=lambda problem: reader.origin(problem.where))
    return [_line(reader.origin(problem.where), str(problem)) for problem in problems]


def _line(origin: tuple[str, int], text: str) -> str:
    path, line = origin
    return f"{path}:{line}: {text}" if line else f"{path}: {text}" if path else text
