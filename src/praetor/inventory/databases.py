"""What the inventory's apps, database hosts and backup hosts mean for each other, checked without contacting one. Pure Python."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TypedDict
from urllib.parse import quote, urlencode

from praetor.documents import Entry

from .ports import HOST_TLS

AUTO_WORKERS = 8
COMMANDS = 5
"""Connections of an app besides its slots': a migration, a check, a person who looks."""
TWO = 2
RESERVED = 12
"""Connections that no app gets: standbys, backups, the exporter, administrators."""
TAKEN = frozenset({"standby", "template0", "template1"})
PORT = 5432
AUTHORITY = HOST_TLS["authority"]
VARIABLES = (
    "DATABASE_URL",
    *("PGHOST", "PGPORT", "PGUSER", "PGPASSWORD", "PGDATABASE", "PGSSLMODE", "PGSSLROOTCERT", "PGCHANNELBINDING"),
    *("PGTARGETSESSIONATTRS", "PGCONNECT_TIMEOUT"),
)
"""What an app with a database finds in its environment."""


class Wanted(TypedDict):
    """One database that an app asks for."""

    app: str
    name: str
    connections: int
    extensions: list[str]


def wanted(apps: Sequence[Entry], app_hosts: int) -> list[Wanted]:
    """Return the database of each app that asks for one, with its limit of connections.

    Args:
        apps: checked, with every default.
        app_hosts: how many hosts the apps run on.

    """
    found: list[Wanted] = []
    for app in apps:
        asked = app.get("database")
        if asked is None:
            continue
        workers = AUTO_WORKERS if app["workers"] == "auto" else int(app["workers"])
        slots = max(app_hosts, 1) * workers * int(app["threads"]) * 2
        found.append(
            {
                "app": app["name"],
                "name": asked["name"] or app["name"],
                "connections": asked["connections"] or slots + COMMANDS,
                "extensions": list(asked["extensions"]),
            }
        )
    return found


def mistakes(
    apps: Sequence[Entry],
    groups: Mapping[str, Sequence[str]],
    max_connections: int,
    *,
    synchronous: bool = False,
) -> list[str]:
    """Say what does not fit, a sentence each: place, found, expected."""
    databases, backups, hosts = (list(groups.get(name, [])) for name in ("database_hosts", "backup_hosts", "app_hosts"))
    asked = wanted(apps, len(hosts))
    lines = [*_groups(databases, backups, hosts), *_synchronous(databases, asked=synchronous)]
    if asked and not databases:
        names = ", ".join(one["app"] for one in asked)
        lines.append(
            f"groups.database_hosts: found no host, expected at least one: the database of {names} is to be on it "
            "(an app whose database is elsewhere has no key `database`)"
        )
    owners: dict[str, str] = {}
    for one in asked:
        if owners.setdefault(one["name"], one["app"]) != one["app"]:
            lines.append(
                f"apps: found the database {one['name']} at {owners[one['name']]} and at {one['app']}, expected another database for each"
            )
        if one["name"] in TAKEN:
            lines.append(
                f"app {one['app']}: found the database {one['name']}, expected another name: the database hosts use it themselves"
            )
    total = sum(one["connections"] for one in asked)
    if asked and total + RESERVED > max_connections:
        parts = ", ".join(f"{one['app']} {one['connections']}" for one in asked)
        lines.append(
            f"postgresql_max_connections: found {max_connections}, expected at least {total + RESERVED}: {parts}, and {RESERVED} for "
            "standbys, backups and administrators. Fewer workers or threads, or a lower database.connections, need less"
        )
    for app in apps:
        if app.get("database") is None:
            continue
        for taken_by in (list(app["env"]), app.get("config_secrets", [])):
            if taken := sorted(set(VARIABLES) & set(taken_by)):
                lines.append(
                    f"app {app['name']}: found {', '.join(taken)} among its variables, expected other names: `database` sets them"
                )
    return lines


def _synchronous(databases: list[str], *, asked: bool) -> Iterator[str]:
    if asked and len(databases) < TWO:
        yield (
            f"postgresql_synchronous: found true with {', '.join(databases) or 'no host'} in database_hosts, expected at least two: a write waits until "
            "another host has it, so none would ever be acknowledged"
        )


def _groups(databases: list[str], backups: list[str], hosts: list[str]) -> Iterator[str]:
    if len(backups) > 1:
        yield f"groups.backup_hosts: found {', '.join(backups)}, expected one host: it holds all backups"
    for host in sorted(set(backups) & set(databases)):
        yield f"groups.backup_hosts: found {host}, which is in database_hosts too, expected another host: a backup must outlive what it is a backup of"
    for host in sorted((set(backups) | set(databases)) & set(hosts)):
        yield f"groups.app_hosts: found {host}, which is in database_hosts or backup_hosts too, expected separate hosts: an app could reach what is to survive it"


def warnings(apps: Sequence[Entry], groups: Mapping[str, Sequence[str]]) -> list[str]:
    """Say what is allowed, and hardly meant."""
    hosts = list(groups.get("app_hosts", []))
    lines = []
    if len(hosts) > 1:
        for app in apps:
            why = "" if app.get("database") is not None else _own_files(app)
            if why:
                lines.append(
                    f"app {app['name']} keeps {why} on each of {len(hosts)} app hosts, and they know nothing of each other: a client "
                    "finds its data on one of them only. `database: true` gives the app one database for all (docs/databases.md)."
                )
    if groups.get("database_hosts") and not groups.get("backup_hosts"):
        lines.append(
            "The databases of this inventory have no backup: put a host into the group backup_hosts (docs/databases.md)."
        )
    return lines


def _own_files(app: Entry) -> str:
    """Say what an app keeps in files of the host; an empty string when nothing shows it."""
    texts = [*_texts(app.get("config")), *_texts(app.get("env"))]
    if any(text.startswith("sqlite:") for text in texts):
        return "a SQLite file"
    # Storage of the host's own is what `each` is for.
    if app["commands"]["migrate"] and app["commands"]["migrate_on"] == "each":
        return "storage that is migrated on each host (commands.migrate_on: each)"
    return ""


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)


def variables(name: str, password: str, addresses: Sequence[str]) -> dict[str, str]:
    """Return the environment of an app whose database is on some host of `addresses`: its URL and the variables of libpq.

    Whichever host is the primary is found by the client itself, so a switch needs no release.
    """
    how = {
        "sslmode": "verify-full",
        "sslrootcert": AUTHORITY,
        "channel_binding": "require",
        "target_session_attrs": "read-write",
        "connect_timeout": "3",
        "tcp_user_timeout": "8000",
        "keepalives_idle": "5",
        "keepalives_interval": "2",
        "keepalives_count": "3",
    }
    user = f"{quote(name, safe='')}:{quote(password, safe='')}"
    # Most readers of such a URL know one host only where the host is written; libpq takes several in the query.
    place = f"{_host(addresses[0])}:{PORT}" if len(addresses) == 1 else ""
    several = {"host": ",".join(addresses)} if len(addresses) > 1 else {}
    return {
        "DATABASE_URL": f"postgresql://{user}@{place}/{quote(name, safe='')}?{urlencode({**several, **how}, safe=',/:')}",
        "PGHOST": ",".join(addresses),
        "PGPORT": str(PORT),
        "PGUSER": name,
        "PGPASSWORD": password,
        "PGDATABASE": name,
        "PGSSLMODE": "verify-full",
        "PGSSLROOTCERT": AUTHORITY,
        "PGCHANNELBINDING": "require",
        "PGTARGETSESSIONATTRS": "read-write",
        "PGCONNECT_TIMEOUT": "3",
    }


def _host(address: str) -> str:
    return f"[{address}]" if ":" in address else address
