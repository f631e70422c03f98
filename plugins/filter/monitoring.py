"""Filters that turn the inventory into what the monitoring hosts ask for; the playbooks connect the two."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any

from praetor.inventory.ports import HOST_TLS, METRICS_PORT, journal_port, listens
from praetor.inventory.redis import instances

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from praetor.documents import Entry

# The exporters of a host, by the roles that they are of: each is a job of Prometheus under the name without `_exporter`.
EXPORTERS = ("node_exporter", "nginx_exporter", "app_exporter")
BALANCER_EXPORTERS = ("node_exporter", "haproxy")
DATABASE_EXPORTERS = ("node_exporter", "postgres_exporter")
BACKUP_EXPORTERS = ("node_exporter",)
REDIS_EXPORTERS = ("node_exporter", "redis_exporter")
# Where an exporter has its figures elsewhere than at /metrics: this one is told which instance to ask.
PATHS = {"redis_exporter": "/scrape"}


def probe_modules(apps: Iterable[Entry], certificates: str, balancers: Iterable[str] = ()) -> dict[str, dict[str, Any]]:
    """Make a module of the blackbox exporter for each status that means that an app is healthy: `http_200`, or `http_below_500`.

    Behind balancers, which then have the clients' certificates, the app hosts have the internal authority's: `http_200_host` trusts it.

    Args:
        apps: the inventory's.
        certificates: the mode of role certificates, which says whom a client trusts.
        balancers: the balancers, if there are any.

    """
    trusts = {"": certificates, **({"_host": "internal"} if balancers else {})}
    modules = {}
    for kind, trusted in trusts.items():
        http: dict[str, Any] = {"follow_redirects": False, "preferred_ip_protocol": "ip4"}
        if trusted == "internal":
            http["tls_config"] = {"ca_file": HOST_TLS["authority"]}
        for module, statuses in sorted({_module(app): _statuses(app) for app in apps}.items()):
            codes = {"valid_status_codes": statuses, **http}
            modules[f"{module}{kind}"] = {"prober": "http", "timeout": "5s", "http": codes}
    return modules


def _statuses(app: Entry) -> list[int]:
    """Say which statuses are healthy, as the gate does; an app that is not for the public lets nobody in who has no password or certificate."""
    access, health = app["http"]["access"], app["health"]
    if access:
        return [403 if access["authority"] else 401]
    if not health["path"] and not health["status"]:
        return list(range(200, 500))
    return [health["status"] or 200]


def _module(app: Entry) -> str:
    statuses = _statuses(app)
    return f"http_{statuses[0]}" if len(statuses) == 1 else "http_below_500"


def probes(
    hosts: Iterable[str],
    hostvars: Mapping[str, Any],
    apps: Iterable[Entry],
    certificates: str,
    balancers: Iterable[str] = (),
) -> list[dict[str, Any]]:
    """Ask every host for the health of every app under every name that is one, whatever the names resolve to.

    Behind balancers also these: at the addresses that they share, or at each of them where they share none.
    """
    scheme = "http" if certificates == "none" else "https"
    balancers = list(balancers)
    kind = "_host" if balancers else ""
    asked = {host: (address(host, hostvars), kind) for host in hosts}
    reached = clients_reach(balancers, hostvars)
    asked |= {name: (where, "") for name, where in reached.items()}
    # By it an alert finds out whether any balancer has the address.
    shared = {name: {"address": where} for name, where in reached.items() if name not in balancers}
    return [
        {
            "targets": [f"{scheme}://{f'[{where}]' if ':' in where else where}{app['health']['path'] or '/'}"],
            "labels": {
                "instance": instance,
                "app": app["name"],
                "server_name": name,
                "__param_hostname": name,
                "__param_module": f"{_module(app)}{module}",
                **shared.get(instance, {}),
            },
        }
        for app in apps
        for instance, (where, module) in asked.items()
        for name in app["server_names"]
        if not name.startswith("*.")
    ]


def clients_reach(balancers: Iterable[str], hostvars: Mapping[str, Any]) -> dict[str, str]:
    """Return where clients reach the sites behind balancers, by the name that is shown: the shared addresses, or each balancer's own."""
    balancers = list(balancers)
    shared = (
        [str(ipaddress.ip_interface(held).ip) for held in hostvars[balancers[0]].get("keepalived_addresses") or []]
        if balancers
        else []
    )
    return {held: held for held in shared} or {host: address(host, hostvars) for host in balancers}


def address(host: str, hostvars: Mapping[str, Any]) -> str:
    """Say where a host is reached."""
    return str(hostvars[host].get("ansible_host", host))


def own_targets(host: str, role: str, hostvars: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Ask what runs next to Prometheus, over loopback, whatever the job does with other hosts."""
    labels = {"instance": host, "__scheme__": "http", "__metrics_path__": "/metrics"}
    return [{"targets": [listens(role, host, hostvars)], "labels": labels}]


def endpoints(hosts: Iterable[str], hostvars: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Ask each host's metrics endpoint."""
    return [{"targets": [f"{address(host, hostvars)}:{METRICS_PORT}"], "labels": {"instance": host}} for host in hosts]


def redis_targets(hosts: Iterable[str], hostvars: Mapping[str, Any], apps: Sequence[Entry]) -> list[dict[str, Any]]:
    """Ask each host's metrics endpoint for each instance of Redis, which its exporter then asks."""
    return [
        {
            **endpoint,
            "labels": {
                **endpoint["labels"],
                "app": one["app"],
                "keeps": one["keeps"],
                "__param_target": f"rediss://{_in_url(address(host, hostvars))}:{one['port']}",
            },
        }
        for host in hosts
        for endpoint in endpoints([host], hostvars)
        for one in instances(apps)
    ]


def _in_url(name: str) -> str:
    return f"[{name}]" if ":" in name else name


def metrics_endpoint(host: str, groups: Mapping[str, list[str]], hostvars: Mapping[str, Any]) -> dict[str, Any]:
    """Serve a host's exporters to the monitoring hosts, and to app hosts what an app host has of that which runs once; nothing where nobody asks."""
    monitors, apps = groups.get("monitoring_hosts", []), groups.get("app_hosts", [])
    others = [other for other in apps if other != host] if host in apps else []
    if not monitors and not others:
        return {}
    exporters = _exporters(host, groups) if monitors else ()
    return {
        "listen": f"{address(host, hostvars)}:{METRICS_PORT}",
        **HOST_TLS,
        "clients": list(monitors),
        # HAProxy, which does this on balancers, is asked by monitoring hosts only.
        **({} if host in groups.get("balancer_hosts", []) else {"app_hosts": others}),
        "sources": {
            role.removesuffix("_exporter"): listens(role, host, hostvars) + PATHS.get(role, "") for role in exporters
        },
    }


def _exporters(host: str, groups: Mapping[str, list[str]]) -> tuple[str, ...]:
    others = {
        "balancer_hosts": BALANCER_EXPORTERS,
        "database_hosts": DATABASE_EXPORTERS,
        "backup_hosts": BACKUP_EXPORTERS,
        "redis_hosts": REDIS_EXPORTERS,
    }
    return next((found for group, found in others.items() if host in groups.get(group, [])), EXPORTERS)


def private_ports(host: str, groups: Mapping[str, list[str]], hostvars: Mapping[str, Any]) -> list[int]:
    """Name the ports on loopback that only root and Debian's fixed accounts, as NGINX's, may connect to: exporters know all apps.

    None on a balancer: no app runs there, and HAProxy's account, which passes the metrics on, is none of the fixed ones.
    """
    if host in groups.get("balancer_hosts", []):
        return []
    return sorted(int(listens(role, host, hostvars).rpartition(":")[2]) for role in _exporters(host, groups))


def host_tls(_: str) -> dict[str, str]:
    """Name a host's own certificate, its key and the authority: equal on all hosts, put there by role certificates."""
    return dict(HOST_TLS)


def listens_on(host: str, role: str, hostvars: Mapping[str, Any]) -> str:
    """Say where a role's service listens on a host."""
    return listens(role, host, hostvars)


def journal_url(monitors: list[str], hostvars: Mapping[str, Any]) -> str:
    """Say where journals are sent: to the first of the monitoring hosts."""
    name = address(monitors[0], hostvars)
    return f"https://{_in_url(name)}:{journal_port(monitors[0], hostvars)}"


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Callable[..., object]]:
        """Name the filters."""
        return {
            "endpoints": endpoints,
            "host_tls": host_tls,
            "journal_url": journal_url,
            "listens_on": listens_on,
            "metrics_endpoint": metrics_endpoint,
            "own_targets": own_targets,
            "private_ports": private_ports,
            "probe_modules": probe_modules,
            "probes": probes,
            "redis_targets": redis_targets,
        }
