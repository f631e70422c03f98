"""Checks what a run is asked and its inventory on the controller, before any host is contacted: options, apps, notices, databases, balancers.

The rules and words are in `praetor.inventory`; here is only what needs Ansible:
templating, decryption, and the file and line that each value came from.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible import constants
from ansible.errors import AnsibleError
from ansible.module_utils.parsing.convert_bool import boolean
from ansible.parsing.vault import VaultLib, VaultSecret
from ansible.plugins.action import ActionBase
from ansible.utils.vars import load_extra_vars

from praetor.documents import Entry
from praetor.inventory.balancers import BalancerVariables, CheckedApp
from praetor.inventory.balancers import problems as balancer_problems
from praetor.inventory.check import Checked, check_apps, differences, missing
from praetor.inventory.databases import mistakes as database_mistakes
from praetor.inventory.databases import warnings as database_warnings
from praetor.inventory.egress import with_services
from praetor.inventory.mistakes import path_text
from praetor.inventory.notices import check as check_notices
from praetor.inventory.notices import plain
from praetor.inventory.redis import mistakes as redis_mistakes
from praetor.inventory.storage import NAME as S3
from praetor.inventory.storage import bare as storage_bare
from praetor.inventory.storage import mistakes as storage_mistakes
from praetor.run.asked import refusal
from praetor.run.inputs import Said, declared, misspelt, problem, said
from praetor.run.reader import Reader

OTHER_TIERS = ("app_hosts", "monitoring_hosts", "database_hosts", "backup_hosts", "redis_hosts")
_EXAMPLE_WARNING = (
    "The secrets of this inventory open with the example password, which everyone can read. "
    "Encrypt them with your own: inventories/README.md."
)


class ActionModule(ActionBase):  # type: ignore[misc]  # ansible-core has no types
    """Returns `apps` with every default filled in, `secrets` by app name, and the project's `root`.

    Argument: `max_connections` of the database hosts.
    """

    TRANSFERS_FILES = False
    _requires_connection = False
    _supports_check_mode = True
    _supports_diff = False
    _VALID_ARGS = frozenset({"max_connections"})

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Check what the first host of the play has, and that all hosts agree about their `apps`; say all mistakes at once."""
        result: dict[str, Any] = super().run(tmp, task_vars)
        variables = task_vars or {}
        if refused := refusal(self._loader, variables):
            return {**result, "failed": True, "msg": refused}
        app_hosts = variables["groups"].get("app_hosts", [])
        if not app_hosts:
            return {**result, "failed": True, "msg": _no_app_hosts(variables)}
        if variables["inventory_hostname"] not in app_hosts:
            return {**result, "skipped": True, "skip_reason": "this run leaves all app hosts out"}
        # A path source is relative to the project, which is where ansible.cfg is.
        root = Path(constants.CONFIG_FILE).parent if constants.CONFIG_FILE else Path(variables["playbook_dir"]).parent
        reader = Reader(self._templar)
        if "apps" not in variables:
            return self._failed(
                result, [_no_apps(reader, variables), *self._inputs(variables), *self._notices(variables)]
            )
        data = reader.read(variables["apps"])
        checked = check_apps(data, root, frozenset(reader.vaulted))
        # Hosts share most of their files, so they share mistakes.
        found = [*_mistakes(reader, checked), *self._of_others(reader, data, root, variables)]
        found += _same_addresses(reader, variables)
        of_tiers, warnings = self._tiers(variables, checked, root, right=not found)
        found = [*self._inputs(variables), *found, *of_tiers]
        if lines := [*dict.fromkeys(found), *self._notices(variables)]:
            return self._failed(result, lines)
        try:
            apps = with_services(checked.apps, variables["groups"], variables["hostvars"])
        except ValueError as error:
            return self._failed(result, [str(error)])
        return {
            **result,
            "warnings": [*self._warnings(reader, root), *warnings],
            "apps": apps,
            "secrets": checked.secrets,
            "root": str(root),
            "_ansible_no_log": bool(any(checked.secrets.values())),
        }

    def _inputs(self, variables: dict[str, Any]) -> list[str]:
        """Return what is wrong with what the inventory says to roles. Playbooks need not ask each host once more at each role."""
        written = [
            *said(variables["hostvars"]._inventory, self._loader, variables["playbook_dir"]),  # noqa: SLF001  it has no other way
            *(Said(str(name), value) for name, value in load_extra_vars(self._loader).items()),
        ]
        inputs = declared(each.name for each in written)
        wrong = misspelt({each.name for each in written}, inputs, [each.value for each in written])
        found = []
        for name, value in written:
            reader = Reader(self._templar)
            reader.note(value, (name,))
            told = wrong.get(name, "")
            if name in inputs:
                resolved = reader.read(value, (name,))
                # What only a host can tell is found out there.
                told = "" if reader.problems else problem(name, inputs[name], resolved, secret=bool(reader.vaulted))
            if told:
                found.append((reader.origin((name,)), told))
        return [_line(origin, told) for origin, told in sorted(found)]

    def _of_others(self, reader: Reader, data: object, root: Path, variables: dict[str, Any]) -> list[str]:
        """Return what is wrong with the `apps` of the play's other hosts, and where hosts do not agree."""
        lines: list[str] = []
        host, app_hosts = variables["inventory_hostname"], variables["groups"]["app_hosts"]
        others = [other for other in variables["ansible_play_hosts_all"] if other in app_hosts and other != host]
        everyone = {host: data}
        for other in others:
            read = Reader(self._templar)
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

    def _warnings(self, reader: Reader, root: Path) -> list[str]:
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

    def _notices(self, variables: dict[str, Any]) -> list[str]:
        """Return what is wrong with who is told of releases and with the hooks around them: the first host's are the run's."""
        given = {}
        for name in ("release_notify", "release_hooks"):
            try:
                given[name] = plain(self._templar.template, variables.get(name))
            except AnsibleError as error:
                reason = str(error).partition("\n")[0]
                return [f"{name}: found what cannot be resolved ({reason}), expected plain or vaulted values"]
        return check_notices(given["release_notify"], given["release_hooks"])

    def _tiers(
        self, variables: dict[str, Any], checked: Checked, root: Path, *, right: bool
    ) -> tuple[list[str], list[str]]:
        """Return what tiers cannot be for each other, which can be told of apps that are `right`, and what is hardly intended."""
        of_storage, warnings = self._storage(variables, root)
        if not right:
            return of_storage, warnings
        secrets = {app: list(values) for app, values in checked.secrets.items()}
        apps: list[Entry] = [{**app, "config_secrets": secrets.get(app["name"], [])} for app in checked.apps]
        between = [*self._balancers(variables, checked.apps), *self._databases(variables, apps)]
        return [*between, *of_storage], [*database_warnings(apps, variables["groups"]), *warnings]

    def _databases(self, variables: dict[str, Any], apps: list[Entry]) -> list[str]:
        """Return what apps, database hosts, backup hosts and the Redis host cannot be for each other."""
        groups = {name: list(hosts) for name, hosts in variables["groups"].items()}
        hosts = groups.get("database_hosts", [])
        # One that is only ever given by -e is found at any host.
        asked = variables["hostvars"][hosts[0] if hosts else variables["inventory_hostname"]].get(
            "postgresql_synchronous", False
        )
        synchronous = boolean(self._templar.template(asked), strict=False)
        return [
            *database_mistakes(apps, groups, int(self._task.args["max_connections"]), synchronous=synchronous),
            *redis_mistakes(apps, groups),
        ]

    def _storage(self, variables: dict[str, Any], root: Path) -> tuple[list[str], list[str]]:
        """Return what is wrong with the second repository of backups, and what is hardly intended."""
        hostvars = variables["hostvars"]
        groups = {name: list(hosts) for name, hosts in variables["groups"].items()}
        given: dict[str, object] = {}
        vaulted: dict[str, frozenset[str]] = {}
        passphrases: dict[str, object] = {}
        origins: dict[str, tuple[str, int]] = {}
        hosts = [*groups.get("database_hosts", []), *groups.get("backup_hosts", []), variables["inventory_hostname"]]
        for host in hosts:
            reader = Reader(self._templar)
            try:
                given[host] = reader.read(hostvars[host].get(S3))
                passphrases[host] = reader.read(hostvars[host].get("pgbackrest_passphrase"), ("pgbackrest_passphrase",))
            except AnsibleError as error:
                reason = str(error).partition("\n")[0]
                return [
                    f"{S3} of {host}: found what cannot be resolved ({reason}), expected plain or vaulted values"
                ], []
            if reader.problems:
                return [f"{S3} of {host}: found {one.found}, expected {one.expected}" for one in reader.problems], []
            origins = origins or {str(where[0]) if where else "": origin for where, origin in reader.origins.items()}
            vaulted[host] = frozenset(str(where[0]) for where in reader.vaulted if where)
        found = storage_mistakes(given, groups, passphrases, root), storage_bare(given, groups, vaulted)
        # A line begins with the key that it is about.
        mistakes, warnings = (
            [_line(origins.get(re.split("[ .:]", line)[1], origins.get("", ("", 0))), line) for line in lines]
            for lines in found
        )
        return mistakes, warnings

    @staticmethod
    def _balancers(variables: dict[str, Any], apps: list[Entry]) -> list[str]:
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
            {
                "name": app["name"],
                "path": app["health"]["path"],
                "status": app["health"]["status"],
                "authority": bool(app["http"]["access"] and app["http"]["access"]["authority"]),
            }
            for app in apps
        ]
        return balancer_problems(told, elsewhere, checked, mode)

    @staticmethod
    def _failed(result: dict[str, Any], lines: list[str]) -> dict[str, Any]:
        count = "1 mistake" if len(lines) == 1 else f"{len(lines)} mistakes"
        # Ansible prints `msg` twice, so the mistakes have a separate key; the last newline keeps their lines whole.
        message = f"{count} in the inventory. No host was contacted."
        result.update(failed=True, msg=message, mistakes="\n".join(lines) + "\n")
        return result


def _no_app_hosts(variables: Mapping[str, Any]) -> str:
    """What an inventory has instead of hosts for apps."""
    sources = ", ".join(variables["ansible_inventory_sources"])
    there = ", ".join(sorted(set(variables["groups"]) - {"all", "ungrouped"}))
    expected = "expected at least one host in the group app_hosts" + (f"; it has the groups {there}" if there else "")
    return f"groups.app_hosts: found no host in {sources}, {expected}"


def _no_apps(reader: Reader, variables: Mapping[str, Any]) -> str:
    """That there are no `apps`, with the place of what looks like them."""
    message, near = missing(variables)
    reader.note(variables.get(near) if near else None, ())
    return _line(reader.origin(()), message)


def _same_addresses(reader: Reader, variables: Mapping[str, Any]) -> list[str]:
    """Hosts that a line of the inventory gives another host's address: each run would go to that one twice, at the same time."""
    first: dict[tuple[str, str], str] = {}
    lines = []
    for host in variables["groups"]["all"]:
        # As they are written: what is filled in for each of hundreds of hosts takes as long as a release.
        own = variables["hostvars"]._inventory.get_host(host).vars  # noqa: SLF001
        address = str(own.get("ansible_host", host))
        other = first.setdefault((address, str(own.get("ansible_port", 22))), host)
        if other != host:
            # A template may come to something else for each of the two.
            address, theirs = (str(variables["hostvars"][each].get("ansible_host", each)) for each in (host, other))
            if address != theirs:
                continue
            reader.note(own.get("ansible_host"), (host,))
            said = (
                f"{host}.ansible_host: found {address}, which is the address of {other} too, expected one host at each"
            )
            lines.append(_line(reader.origin((host,)), said))
    return lines


def _mistakes(reader: Reader, checked: Checked) -> list[str]:
    """Every mistake in what was read, with its place; what could not be resolved is one, and nothing else is said of it."""
    unresolved = {problem.where for problem in reader.problems}
    problems = [*reader.problems, *(problem for problem in checked.problems if problem.where not in unresolved)]
    problems.sort(key=lambda problem: reader.origin(problem.where))
    return [_line(reader.origin(problem.where), str(problem)) for problem in problems]


def _line(origin: tuple[str, int], text: str) -> str:
    path, line = origin
    return f"{path}:{line}: {text}" if line else f"{path}: {text}" if path else text
