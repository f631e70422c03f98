"""What the inventory's apps and its Redis host mean for each other, checked without contacting one. Pure Python.

A queue and a cache are never in one process, nor are those of two apps: an app has all of an instance, so that no client needs to know of prefixes,
and no app can fill, empty or read what is another's.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import TypedDict
from urllib.parse import quote, urlencode

from praetor.documents import Entry

from .ports import HOST_TLS

AUTHORITY = HOST_TLS["authority"]
FIRST_PORT, PAIRS = 20_000, 5_000
"""Where the pairs of ports are that apps get by their names: below those that systems give to connections."""
OTHER_TIERS = ("app_hosts", "balancer_hosts", "database_hosts", "backup_hosts", "monitoring_hosts")
VARIABLES = {"queue": ("REDIS_URL", "RQ_REDIS_URL", "CELERY_BROKER_URL"), "cache": ("CACHE_URL",)}
"""Under which names an app finds the address; RQ and Celery know theirs by themselves."""


class Instance(TypedDict):
    """One process of Redis: what it keeps, for whom, where and with how much memory."""

    name: str
    app: str
    keeps: str
    port: int
    memory_mb: int


def instances(apps: Sequence[Entry]) -> list[Instance]:
    """Return the instances that checked apps ask for."""
    found: list[Instance] = []
    for app in apps:
        asked = app.get("redis")
        if asked is None:
            continue
        first = asked["port"] or FIRST_PORT + 2 * (zlib.crc32(app["name"].encode()) % PAIRS)
        kinds = (("queue", asked["queue"], asked["queue_mb"]), ("cache", asked["cache"], asked["cache_mb"]))
        found += [
            {
                "name": f"{app['name']}-{keeps}",
                "app": app["name"],
                "keeps": keeps,
                "port": first + number,
                "memory_mb": memory_mb,
            }
            for number, (keeps, is_asked, memory_mb) in enumerate(kinds)
            if is_asked
        ]
    return found


def mistakes(apps: Sequence[Entry], groups: Mapping[str, Sequence[str]]) -> list[str]:
    """Say what does not fit, a sentence each: place, found, expected."""
    hosts = list(groups.get("redis_hosts", []))
    asked = instances(apps)
    lines = []
    if asked and not hosts:
        names = ", ".join(dict.fromkeys(one["app"] for one in asked))
        lines.append(
            f"groups.redis_hosts: found no host, expected one: what {names} asks for with `redis` is to be on it "
            "(an app whose Redis is elsewhere has no key `redis`)"
        )
    if len(hosts) > 1:
        lines.append(
            f"groups.redis_hosts: found {', '.join(hosts)}, expected one host: a queue is in one place, and nothing copies it to another"
        )
    for tier in OTHER_TIERS:
        lines += [
            f"groups.redis_hosts: found {host}, which is in {tier} too, expected a separate host"
            for host in sorted(set(hosts) & set(groups.get(tier, [])))
        ]
    owners: dict[int, Instance] = {}
    for one in asked:
        if owners.setdefault(one["port"], one) is not one:
            other = owners[one["port"]]["name"]
            lines.append(
                f"app {one['app']}: found port {one['port']} for {one['name']}, which {other} has, expected another redis.port, such as "
                f"{_free(asked)}"
            )
    for app in apps:
        own = [name for one in asked if one["app"] == app["name"] for name in VARIABLES[one["keeps"]]]
        for taken_by in (list(app["env"]), app.get("config_secrets", [])):
            if taken := sorted(set(own) & set(taken_by)):
                lines.append(
                    f"app {app['name']}: found {', '.join(taken)} among its variables, expected other names: `redis` sets them"
                )
    return lines


def _free(asked: Sequence[Instance]) -> int:
    taken = {one["port"] for one in asked}
    return next(port for port in range(FIRST_PORT, FIRST_PORT + 2 * PAIRS, 2) if not {port, port + 1} & taken)


def variables(one: Instance, password: str, address: str) -> dict[str, str]:
    """Return the environment that tells an app where its instance is, how to enter it and whom to trust; as redis-py and kombu read it."""
    host = f"[{address}]" if ":" in address else address
    how = urlencode({"ssl_cert_reqs": "required", "ssl_ca_certs": AUTHORITY, "ssl_check_hostname": "true"}, safe="/")
    url = f"rediss://{quote(one['app'], safe='')}:{quote(password, safe='')}@{host}:{one['port']}/0?{how}"
    return dict.fromkeys(VARIABLES[one["keeps"]], url)
