"""Filters that turn what one role knows into the input of another; the playbooks connect the two."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ansible.errors import AnsibleFilterError

from praetor.build.cache import place
from praetor.build.parts import site
from praetor.host.site import waits_s
from praetor.inventory.databases import Wanted, wanted
from praetor.inventory.databases import variables as database_variables
from praetor.inventory.egress import addresses as found_addresses
from praetor.inventory.ports import METRICS_PORT, journal_port
from praetor.inventory.redis import Instance, instances
from praetor.inventory.redis import variables as redis_variables
from praetor.run.pythons import known
from praetor.run.story import listed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from praetor.documents import Entry, Joined


def served(apps: list[Entry]) -> list[Entry]:
    """Return the apps that have a site; the others are processes and jobs alone."""
    return [app for app in apps if app["wsgi"] is not None]


def first_sites(apps: list[Entry], *, tls: bool, answer: bool = True) -> dict[str, str]:
    """Return the configuration of each app's site as its release will bring it, by its file.

    Args:
        apps: as the inventory's check returns them.
        tls: whether sites speak TLS.
        answer: whether names are answered before the first release; if not, the texts are empty.
    """
    return {f"/etc/nginx/sites/{app['name']}.conf": site(_public(app), tls=tls) if answer else "" for app in apps}


def next_sites(apps: list[Entry], *, tls: bool) -> dict[str, str]:
    """Return the configuration of each app's site as its release will bring it, by the app; arguments as of `first_sites`."""
    return {app["name"]: site(_public(app), tls=tls) for app in served(apps)}


def _public(app: Entry) -> Entry:
    """The entry without what comes with a release and keeps people out: before that there is nothing, or what everybody may reach."""
    return {**app, "http": {**app["http"], "access": None}}


def longest_request_s(apps: list[Entry]) -> int:
    """Return the longest time in seconds that any app may take for a request."""
    paths = [path["request_s"] or 0 for app in apps for path in app["http"]["paths"]]
    return max([*paths, *(int(app["limits"]["request_s"]) for app in served(apps))], default=30)


def nginx_waits_s(configuration: str) -> int:
    """Return the seconds that NGINX waits for requests when it is stopped, as its nginx.conf says.

    Raises:
        AnsibleFilterError: it says nothing.
    """
    found = waits_s(configuration)
    if found is None:
        raise AnsibleFilterError(
            "nginx.conf: found no line with the seconds that a stop waits for requests, expected one"
        )
    return found


def longest_answer_s(app: Entry) -> int:
    """Return for how many seconds an app may keep a client waiting, streams between two parts of them included."""
    return max(_longest_s(app), *(_longest_s(one) for one in app.get("joined", [])), 0)


def _longest_s(app: Entry | Joined) -> int:
    paths = app["http"]["paths"]
    waits = [app["limits"]["request_s"], *(path["request_s"] or 0 for path in paths)]
    return max([*waits, app["http"]["stream_s"]] if any(path["stream"] for path in paths) else waits)


def certificate_sites(apps: list[Entry]) -> list[dict[str, Any]]:
    """Turn checked apps into the sites of role certificates: each with the names that clients use."""
    return [
        {"name": app["name"], "server_names": [*app["server_names"], *app["redirect_names"]]} for app in served(apps)
    ]


def access_logs(apps: list[Entry]) -> list[str]:
    """Return where role nginx logs the requests to each app."""
    return [f"/var/log/nginx/{app['name']}.access.log" for app in served(apps)]


def survey_targets(apps: list[Entry], only: str = "") -> dict[str, str]:
    """Turn checked apps into what a survey asks for: the names, each with the server name that its health check uses, if it serves.

    Args:
        apps: the inventory's.
        only: the name of the one to look at; all when empty.

    Raises:
        AnsibleFilterError: the inventory has no app of that name.
    """
    names = {app["name"]: next(iter(app["server_names"]), "") for app in apps}
    if only and only not in names:
        raise AnsibleFilterError(f"-e app={only}: the inventory has no such app, expected one of: {', '.join(names)}")
    return {only: names[only]} if only else names


def addresses(hosts: list[str], variables: dict[str, dict[str, Any]]) -> list[str]:
    """Return the addresses of hosts; a firewall cannot be told names, so these are looked up on the controller.

    Raises:
        AnsibleFilterError: a name has no address.

    """
    try:
        return found_addresses(hosts, variables)
    except ValueError as error:
        raise AnsibleFilterError(str(error)) from error


def named_addresses(hosts: list[str], variables: dict[str, dict[str, Any]]) -> dict[str, str]:
    """Return one address of each host, by its name in the inventory."""
    return {host: addresses([host], variables)[0] for host in hosts}


def reached_as(hosts: list[str], variables: dict[str, dict[str, Any]]) -> dict[str, str]:
    """Return how each host is reached, a name or an address: that is what its certificate is for."""
    return {host: str(variables[host].get("ansible_host", host)) for host in hosts}


def firewall_allow(
    host: str, groups: dict[str, list[str]], variables: dict[str, dict[str, Any]]
) -> list[dict[str, Any]]:
    """Return what may come in besides SSH.

    Sites for all or, behind balancers, for these; metrics for monitoring hosts, logs to those, apps to databases.
    """
    apps, monitoring = groups.get("app_hosts", []), groups.get("monitoring_hosts", [])
    balancers = groups.get("balancer_hosts", [])
    allowed: list[dict[str, Any]] = []
    if host in balancers or (host in apps and not balancers):
        allowed.append({"name": "sites", "ports": [80, 443]})
    elif host in apps:
        # Whoever else came here would pass by the balancers' limits.
        admins = list(variables[host].get("firewall_admin_networks", []))
        callers = sorted({*addresses([*balancers, *monitoring], variables), *admins})
        allowed.append({"name": "sites", "ports": [443], "from": callers})
    if host in balancers and len(balancers) > 1:
        others = addresses([other for other in balancers if other != host], variables)
        allowed.append({"name": "who holds the address", "protocol": "vrrp", "from": others})
    databases, backups = groups.get("database_hosts", []), groups.get("backup_hosts", [])
    if host in databases:
        peers = [one for one in databases if one != host]
        allowed.append({"name": "databases", "ports": [5432], "from": addresses([*apps, *peers], variables)})
    if backups and host in [*databases, *backups]:
        others = backups if host in databases else databases
        allowed.append({"name": "backups of databases", "ports": [8432], "from": addresses(others, variables)})
    if host in backups:
        # Hosts with files that nobody else has.
        allowed.append({"name": "copies of files", "ports": [8433], "from": addresses([*apps, *monitoring], variables)})
    redis = groups.get("redis_hosts", [])
    # App hosts ask each other what they have of that which runs once.
    asking = [*monitoring, *(other for other in apps if host in apps and other != host)]
    if asking:
        allowed.append({"name": "metrics", "ports": [METRICS_PORT], "from": addresses(asking, variables)})
    if host in monitoring:
        allowed.append(
            {
                "name": "logs",
                "ports": [journal_port(host, variables)],
                "from": addresses([*apps, *balancers, *databases, *backups, *redis], variables),
            }
        )
    return allowed


def redis_allow(
    apps: list[Entry], groups: dict[str, list[str]], variables: dict[str, dict[str, Any]]
) -> list[dict[str, Any]]:
    """Return what a Redis host lets in for checked apps: app hosts, to the instances that there are."""
    ports = [one["port"] for one in instances(apps)]
    return (
        [{"name": "queues and caches", "ports": ports, "from": addresses(groups["app_hosts"], variables)}]
        if ports
        else []
    )


def file_places(apps: list[Entry]) -> list[dict[str, str]]:
    """Return what apps have on one host alone: their data, and the history of their releases."""
    return [
        place
        for app in apps
        for place in (
            {"name": app["name"], "path": f"/srv/apps/{app['name']}/data", "user": app["name"]},
            {"name": f"{app['name']}.history", "path": f"/srv/apps/{app['name']}/history.jsonl", "user": "root"},
        )
    ]


def open_ports(host: str, groups: dict[str, list[str]], variables: dict[str, dict[str, Any]], ssh: int) -> list[int]:
    """Return the TCP ports that the firewall leaves open on a host, SSH's first."""
    return [ssh, *(port for allowed in firewall_allow(host, groups, variables) for port in allowed.get("ports", []))]


def haproxy_sites(
    apps: list[Entry],
    groups: dict[str, list[str]],
    variables: dict[str, dict[str, Any]],
    surveys: list[dict[str, Any]] | None = None,
) -> list[dict[str, Any]]:
    """Turn checked apps into the sites of role haproxy: each served by every app host.

    Balancers hear of a change before hosts serve it. So hosts are asked as those know it which `surveys` found live: by one of their names, for their
    path (to a later release it means its own one), and what they answer means that a host is well, too.
    """
    servers = []
    for host in groups.get("app_hosts", []):
        found = addresses([host], variables)[0]
        servers.append({"name": host, "address": f"[{found}]:443" if ":" in found else f"{found}:443"})
    live = {app["name"]: _live(app["name"], surveys or []) for app in apps}
    return [
        {
            "name": app["name"],
            # NGINX leads from the second kind to the first.
            "server_names": [*_known_first(app["server_names"], live[app["name"]]), *app["redirect_names"]],
            "certificate": f"/etc/praetor/tls/sites/{app['name']}/fullchain.pem",
            "key": f"/etc/praetor/tls/sites/{app['name']}/key.pem",
            "servers": servers,
            "health": {
                "path": [*(settings["health"]["path"] for settings in live[app["name"]]), app["health"]["path"]][0]
                or "/",
                "status": sorted(
                    {
                        app["health"]["status"] or 200,
                        *(settings["health"]["status"] or 200 for settings in live[app["name"]]),
                    }
                ),
            },
            "request_s": longest_answer_s(app),
        }
        for app in served(apps)
    ]


def _live(app: str, surveys: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the settings of the releases of an app that are live."""
    found = [survey.get("apps", {}).get(app, {}).get("manifest") for survey in surveys]
    return [manifest["settings"] for manifest in found if manifest]


def _known_first(names: list[str], live: list[dict[str, Any]]) -> list[str]:
    """Return names with those first that all live releases have, too."""
    return sorted(names, key=lambda name: not all(name in settings["server_names"] for settings in live))


def releases_that_differ(survey: dict[str, Any], others: list[dict[str, Any]]) -> list[str]:
    """Return the apps whose live release on a host is not that of other hosts, as `api (1.0-x here, 1.1-y on others)`.

    Args:
        survey: of the host.
        others: of other hosts; those that gave no answer count for nothing.
    """
    found = []
    for app, state in survey["apps"].items():
        live = {each["apps"][app]["live"] for each in others if app in each.get("apps", {})} - {None}
        if live and state["live"] not in live:
            found.append(f"{app} ({state['live'] or 'nothing'} here, {', '.join(sorted(live))} on others)")
    return found


def databases(apps: list[Entry], groups: dict[str, list[str]]) -> list[Wanted]:
    """Return the databases that apps ask for; none where no host has any."""
    return wanted(apps, len(groups.get("app_hosts", [])))


def with_databases(
    secrets: dict[str, dict[str, str]],
    asked: list[Wanted],
    kept: dict[str, str],
    groups: dict[str, list[str]],
    variables: dict[str, dict[str, Any]],
) -> dict[str, dict[str, str]]:
    """Add to each app's secrets where its database is and how to enter it.

    Args:
        secrets: of all apps.
        asked: the databases that apps ask for.
        kept: passwords by database, as an app host keeps them.
        groups: of the inventory.
        variables: of all hosts.

    Raises:
        AnsibleFilterError: a password is not there yet.

    """
    found = {app: dict(values) for app, values in secrets.items()}
    hosts = [str(variables[host].get("ansible_host", host)) for host in groups.get("database_hosts", [])]
    for one in asked:
        password = _password(kept, one["name"], one["app"], "database")
        found.setdefault(one["app"], {}).update(database_variables(one["name"], password, hosts))
    return found


def _password(kept: dict[str, str], name: str, app: str, what: str) -> str:
    if name not in kept:
        raise AnsibleFilterError(
            f"{app}: its {what} is not made yet. Nothing was changed; what serves goes on. Type: "
            "ansible-playbook playbooks/provision.yml -i INVENTORY"
        )
    return kept[name]


def redis_instances(apps: list[Entry]) -> list[Instance]:
    """Return the queues and caches that apps ask for."""
    return instances(apps)


def with_redis(
    secrets: dict[str, dict[str, str]],
    asked: list[Instance],
    kept: dict[str, str],
    groups: dict[str, list[str]],
    variables: dict[str, dict[str, Any]],
) -> dict[str, dict[str, str]]:
    """Add to each app's secrets where its queue and its cache are and how to enter them; arguments as of `with_databases`.

    Raises:
        AnsibleFilterError: a password is not there yet.

    """
    found = {app: dict(values) for app, values in secrets.items()}
    for one in asked:
        password = _password(kept, one["name"], one["app"], one["keeps"])
        host = groups["redis_hosts"][0]
        address = str(variables[host].get("ansible_host", host))
        found.setdefault(one["app"], {}).update(redis_variables(one, password, address))
    return found


def silent(hosts: list[str], hostvars: dict[str, dict[str, Any]], register: str) -> list[str]:
    """Name the hosts that were away for the task that registered a variable."""
    return [host for host in hosts if (hostvars[host].get(register) or {}).get("away")]


def pythons(hosts: list[str], hostvars: Mapping[str, Any], sources: list[str], cache: str) -> dict[str, str]:
    """Return the tag of each host's system, as cp311; an empty one for a host that nobody has asked yet.

    Args:
        hosts: their names.
        hostvars: the variables of all hosts; empty while Ansible only looks at the syntax.
        sources: the inventory's.
        cache: the directory on the controller that keeps what was built.
    """
    variables = {"hostvars": hostvars, "ansible_inventory_sources": sources}
    return {host: known(place(cache), variables, host) for host in hosts if host in hostvars}


def planned(groups: dict[str, list[str]], hostvars: Mapping[str, Any], what: str) -> list[str]:
    """Return the hosts that the plan of a run has something for; none while there is no plan.

    Args:
        groups: the inventory's.
        hostvars: the variables of all hosts; empty while Ansible only looks at the syntax.
        what: `travel`, `follow`, `tell`, `certify` or `announce`, as app_plan returns them.
    """
    plans = (hostvars[host].get("__plan") for host in groups.get("app_hosts", []) if host in hostvars)
    return list(next((plan[what] for plan in plans if plan), []))


def stateful(groups: dict[str, list[str]], hostvars: Mapping[str, Any]) -> list[str]:
    """Return the app hosts where an app has a database, a queue or a cache here, else none; arguments as of `planned`."""
    hosts = groups.get("app_hosts", [])
    checked = (hostvars[host].get("__apps") for host in hosts if host in hostvars)
    apps: list[Entry] = next((found["apps"] for found in checked if found and "apps" in found), [])
    return list(hosts) if databases(apps, groups) or redis_instances(apps) else []


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Callable[..., object]]:
        """Name the filters."""
        return {
            "access_logs": access_logs,
            "addresses": addresses,
            "certificate_sites": certificate_sites,
            "databases": databases,
            "firewall_allow": firewall_allow,
            "file_places": file_places,
            "first_sites": first_sites,
            "next_sites": next_sites,
            "listed": listed,
            "longest_request_s": longest_request_s,
            "named_addresses": named_addresses,
            "nginx_waits_s": nginx_waits_s,
            "open_ports": open_ports,
            "planned": planned,
            "pythons": pythons,
            "reached_as": reached_as,
            "redis_allow": redis_allow,
            "redis_instances": redis_instances,
            "silent": silent,
            "stateful": stateful,
            "survey_targets": survey_targets,
            "with_databases": with_databases,
            "with_redis": with_redis,
            "haproxy_sites": haproxy_sites,
            "releases_that_differ": releases_that_differ,
        }
