"""Ansible module: what a primary holds besides the apps' own tables: roles, databases, limits, extensions, slots."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.postgres import PostgresError, is_verifier_of, literal, name, query, verifier

if TYPE_CHECKING:
    from collections.abc import Iterator

DOCUMENTATION = r"""
module: postgresql_objects
short_description: Roles, databases, limits, extensions and replication slots of a primary
description:
  - One database and one role of the same name for each app. Passwords reach the server as SCRAM verifiers only.
  - A database that is no longer wanted is left alone; it may be the only copy of somebody's data.
options:
  databases:
    description: Mappings with C(name), C(connections) and C(extensions).
    type: list
    elements: dict
    default: []
  passwords:
    description: Passwords by name of the database.
    type: dict
    default: {}
  settings:
    description: Settings of every app's role, by name.
    type: dict
    default: {}
  slots:
    description: Replication slots, one for each standby; others of the project are removed.
    type: list
    elements: str
    default: []
"""

RETURN = r"""
done:
  description: What was done, a sentence each.
  type: list
  elements: str
pending:
  description: Settings that wait for a restart.
  type: list
  elements: str
"""

Step = tuple[str, str, str]
"""What is done, the SQL that does it, and the database in which."""
ROLES = {"standby": "login replication", "prometheus": "login"}


def roles(wanted: dict[str, int], passwords: dict[str, str], settings: dict[str, str]) -> Iterator[Step]:
    """Yield what is missing at roles: their existence, password, limits."""
    rows = query(
        "select rolname, rolconnlimit, coalesce(rolpassword, ''), coalesce(array_to_string(s.setconfig, ','), '') "
        "from pg_authid left join pg_db_role_setting s on s.setrole = pg_authid.oid and s.setdatabase = 0"
    )
    found = {row[0]: row[1:] for row in rows}
    for role, attributes in ROLES.items():
        if role not in found:
            yield f"make the role {role}", f"create role {name(role)} {attributes}", "postgres"
    for role, connections in wanted.items():
        limit, kept, configured = found.get(role, ["", "", ""])
        if role not in found:
            yield f"make the role {role}", f"create role {name(role)} login", "postgres"
        if limit != str(connections):
            yield (
                f"limit {role} to {connections} connections",
                f"alter role {name(role)} connection limit {connections}",
                "postgres",
            )
        if not is_verifier_of(kept, passwords[role]):
            hashed = literal(verifier(passwords[role], os.urandom(16)))
            yield f"set the password of {role}", f"alter role {name(role)} password {hashed}", "postgres"
        for setting, value in settings.items():
            if f"{setting}={value}" not in configured.split(","):
                yield (
                    f"set {setting} of {role}",
                    f"alter role {name(role)} set {name(setting)} = {literal(value)}",
                    "postgres",
                )


def databases(wanted: list[str]) -> Iterator[Step]:
    """Yield what is missing at databases: their existence, and that nobody but their role may enter."""
    found = {row[0]: row[1] for row in query("select datname, coalesce(datacl::text, '') from pg_database")}
    for database in wanted:
        if database not in found:
            sql = f"create database {name(database)} owner {name(database)} template template0 encoding 'UTF8' locale 'C.UTF-8'"
            yield f"make the database {database}", sql, "postgres"
        if "=Tc/" in found.get(database, "{=Tc/") or not found.get(database):
            sql = f"revoke all on database {name(database)} from public"
            yield f"keep others out of {database}", sql, "postgres"
    for database in ("postgres", "template1"):
        if "{=" in found[database] or not found[database] or ",=" in found[database]:
            yield f"keep apps out of {database}", f"revoke all on database {database} from public", "postgres"
    if "standby=" not in found["postgres"]:
        yield "let the project's own roles in", "grant connect on database postgres to standby, prometheus", "postgres"


def extensions(wanted: dict[str, list[str]]) -> Iterator[Step]:
    """Yield extensions that are missing."""
    for database, names in wanted.items():
        found = {row[0] for row in query("select extname from pg_extension", database)}
        for extension in names:
            if extension not in found:
                yield f"add {extension} to {database}", f"create extension {name(extension)}", database


def slots(wanted: list[str]) -> Iterator[Step]:
    """Yield what is to be done to slots: one that nobody uses holds back WAL."""
    found = {
        row[0]: row[1:]
        for row in query(
            "select slot_name, active, coalesce(wal_status, '') from pg_replication_slots where slot_type = 'physical' and not temporary"
        )
    }
    for slot in wanted:
        if found.get(slot, ["", ""])[1] == "lost":
            sql = f"select pg_drop_replication_slot({literal(slot)}); select pg_create_physical_replication_slot({literal(slot)})"
            yield f"replace the slot {slot}, whose WAL is gone", sql, "postgres"
        elif slot not in found:
            yield f"make the slot {slot}", f"select pg_create_physical_replication_slot({literal(slot)})", "postgres"
    for slot, (active, _status) in found.items():
        if slot not in wanted and active == "f":
            yield f"remove the slot {slot}", f"select pg_drop_replication_slot({literal(slot)})", "postgres"


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={
            "databases": {"type": "list", "elements": "dict", "default": []},
            "passwords": {"type": "dict", "default": {}, "no_log": True},
            "settings": {"type": "dict", "default": {}},
            "slots": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    params = module.params
    wanted = params["databases"]
    done: list[str] = []

    def work(steps: Iterator[Step]) -> None:
        for what, sql, database in steps:
            if not module.check_mode:
                query(sql, database)
            done.append(what)

    try:
        limits = {one["name"]: int(one["connections"]) for one in wanted}
        work(roles(limits, params["passwords"], {key: str(value) for key, value in params["settings"].items()}))
        work(databases(list(limits)))
        work(grants())
        if not module.check_mode:
            work(extensions({"postgres": ["pg_stat_statements"], **{one["name"]: one["extensions"] for one in wanted}}))
        work(slots(params["slots"]))
        pending = [row[0] for row in query("select name from pg_settings where pending_restart order by 1")]
        module.exit_json(changed=bool(done), done=done, pending=pending)
    except (PostgresError, OSError) as error:
        module.fail_json(msg=str(error), done=done)


def grants() -> Iterator[Step]:
    """Yield what the exporter may not see yet."""
    if query("select pg_has_role('prometheus', 'pg_monitor', 'member')") == [["f"]]:
        yield "let the exporter see", "grant pg_monitor to prometheus", "postgres"


if __name__ == "__main__":
    main()
