"""Filters that turn the inventory into what the monitoring hosts ask for; the playbooks connect the two."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

METRICS_PORT = 9443
JOURNAL_PORT = 19532
HOST_CERTIFICATE = "/etc/praetor/tls/host"
EXPORTERS = {"node": 9100, "nginx": 9113, "app": 9117}


AUTHORITY = "/etc/praetor/tls/host/authority.pem"


def probe_modules(apps: Iterable[dict[str, Any]], certificates: str) -> dict[str, dict[str, Any]]:
    """Make a module of the blackbox exporter for each status that means that an app is healthy: `http_200`.

    Args:
        apps: the inventory's.
        certificates: the mode of role certificates, which says whom a client trusts.

    """
    http: dict[str, Any] = {"follow_redirects": False, "preferred_ip_protocol": "ip4"}
    if certificates == "internal":
        http["tls_config"] = {"ca_file": AUTHORITY}
    return {
        f"http_{status}": {"prober": "http", "timeout": "5s", "http": {"valid_status_codes": [status], **http}}
        for status in sorted({app["health"]["status"] for app in apps})
    }


def probes(
    hosts: Iterable[str], hostvars: Mapping[str, Any], apps: Iterable[dict[str, Any]], certificates: str
) -> list[dict[str, Any]]:
    """Ask every host for the health of every app under every name, whatever the names resolve to."""
    scheme = "http" if certificates == "none" else "https"
    return [
        {
            "targets": [f"{scheme}://{address(host, hostvars)}{app['health']['path']}"],
            "labels": {
                "instance": host,
                "app": app["name"],
                "server_name": name,
                "__param_hostname": name,
                "__param_module": f"http_{app['health']['status']}",
            },
        }
        for app in apps
        for host in hosts
        for name in app["server_names"]
    ]


def address(host: str, hostvars: Mapping[str, Any]) -> str:
    """Say where a host is reached."""
    return str(hostvars[host].get("ansible_host", host))


def own_targets(host: str, port: int) -> list[dict[str, Any]]:
    """Ask what runs next to Prometheus, over loopback, whatever the job does with other hosts."""
    labels = {"instance": host, "__scheme__": "http", "__metrics_path__": "/metrics"}
    return [{"targets": [f"127.0.0.1:{port}"], "labels": labels}]


def endpoints(hosts: Iterable[str], hostvars: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Ask each host's metrics endpoint."""
    return [{"targets": [f"{address(host, hostvars)}:{METRICS_PORT}"], "labels": {"instance": host}} for host in hosts]


def metrics_endpoint(host: str, groups: Mapping[str, list[str]], hostvars: Mapping[str, Any]) -> dict[str, Any]:
    """Serve a host's exporters to the monitoring hosts; to nobody where there are none."""
    monitors = groups.get("monitoring_hosts", [])
    if not monitors:
        return {}
    return {
        "listen": f"{address(host, hostvars)}:{METRICS_PORT}",
        "certificate": f"{HOST_CERTIFICATE}/cert.pem",
        "key": f"{HOST_CERTIFICATE}/key.pem",
        "authority": f"{HOST_CERTIFICATE}/authority.pem",
        "clients": list(monitors),
        "sources": {name: f"127.0.0.1:{port}" for name, port in EXPORTERS.items()},
    }


def journal_url(monitors: list[str], hostvars: Mapping[str, Any]) -> str:
    """Say where journals are sent: to the first of the monitoring hosts."""
    name = address(monitors[0], hostvars)
    return f"https://{f'[{name}]' if ':' in name else name}:{JOURNAL_PORT}"


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Callable[..., object]]:
        """Name the filters."""
        return {
            "endpoints": endpoints,
            "journal_url": journal_url,
            "metrics_endpoint": metrics_endpoint,
            "own_targets": own_targets,
            "probe_modules": probe_modules,
            "probes": probes,
        }
