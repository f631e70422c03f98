"""Ports and paths that more than one role knows of. A port of one role stands in the role's own defaults, and is read there; the playbooks connect them."""

from __future__ import annotations

import functools
import pathlib
from collections.abc import Mapping
from typing import Any

import yaml

ROLES = pathlib.Path(__file__).parents[3] / "roles"
METRICS_PORT = 9443  # NGINX or HAProxy of a host passes its exporters' metrics on there, to monitoring hosts only
HOST_TLS = {
    "certificate": "/etc/praetor/tls/host/cert.pem",
    "key": "/etc/praetor/tls/host/key.pem",
    "authority": "/etc/praetor/tls/host/authority.pem",
}
# By the role that a service is of: the input that says where it listens, as address and port or as a port on loopback.
INPUTS = {
    "alertmanager": "alertmanager_listen",
    "app_exporter": "app_exporter_listen",
    "blackbox_exporter": "blackbox_exporter_listen",
    "haproxy": "haproxy_metrics_port",
    "nginx_exporter": "nginx_exporter_listen",
    "node_exporter": "node_exporter_listen",
    "postgres_exporter": "postgres_exporter_listen",
    "prometheus": "prometheus_listen",
    "redis_exporter": "redis_exporter_listen",
}


def listens(role: str, host: str, hostvars: Mapping[str, Any]) -> str:
    """Where a role's service listens on a host: as the inventory says, or else as the role does."""
    name = INPUTS[role]
    found = str(hostvars[host].get(name) or _defaults(role)[name])
    return found if ":" in found else f"127.0.0.1:{found}"


def journal_port(host: str, hostvars: Mapping[str, Any]) -> int:
    """The port on which a monitoring host takes journals."""
    return int(hostvars[host].get("journal_remote_port") or _defaults("journal_remote")["journal_remote_port"])


@functools.cache
def _defaults(role: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROLES / role / "defaults/main.yml").read_text(encoding="utf-8"))
    return found
