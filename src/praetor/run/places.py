"""Which host of a fleet runs how many of an app's processes. Pure decisions over surveys; runs on the controller."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict

from praetor.documents import Place, Surveys
from praetor.host import jobs
from praetor.host.layout import ReleaseError
from praetor.host.processes import defined


def fleet(app: str, variables: Mapping[str, Any]) -> list[str]:
    """All hosts of the inventory that have an app, in its order, whether they are hosts of the play or not."""
    hostvars = variables["hostvars"]
    hosts = list(variables["groups"].get("app_hosts", []))
    return [host for host in hosts if any(each.get("name") == app for each in hostvars[host].get("apps", []))]


def places(app: str, surveys: Surveys, hosts: list[str]) -> dict[str, Place]:
    """The place of each surveyed host in an app's fleet.

    What runs once stays where it is. What no host has goes to the first that is not drained, if all hosts were asked: one that was not may have it.

    Args:
        app: the app.
        surveys: of the hosts of the play.
        hosts: the whole fleet.
    """
    shares = {host: survey["apps"][app]["share"] for host, survey in surveys.items()}
    holders: dict[str, str] = {}
    for host in hosts:
        for name, count in shares.get(host, {}).items():
            if count:
                holders.setdefault(name, host)
    serving = [host for host in hosts if host in surveys and not surveys[host].get("drained")]
    first = next(iter(serving), next(iter(surveys), None)) if set(hosts) <= set(surveys) else None
    return {
        host: Place(
            index=hosts.index(host) if host in hosts else len(hosts),
            hosts=max(len(hosts), 1),
            held=sorted(name for name, holder in holders.items() if holder != host),
            takes=host == first,
        )
        for host in surveys
    }


class Move(TypedDict):
    """Where a process ends, and where it starts; empty where it runs there already."""

    ends: list[str]
    starts: str


def move(once: Mapping[str, list[str]], surveys: Surveys, app: str, process: str, to: str, dead: str) -> Move:
    """How a process that runs once gets to a host.

    Args:
        once: the processes of each app that run once.
        surveys: of all hosts; one that gave no answer has no `apps`.
        app: the app.
        process: the process.
        to: the host.
        dead: a host that does not answer, and is off, as the operator says.

    Raises:
        ReleaseError: there is no such process or host, or it may still run where nobody can look.
    """
    if app not in once:
        raise ReleaseError(f"-e app={app}: expected one of: {', '.join(once)}")
    if process not in once[app]:
        known = ", ".join(once[app]) or "none"
        raise ReleaseError(
            f"-e process={process}: expected a process of {app} with `one: true` or a job with `on: once`; it has: {known}"
        )
    states = {host: survey["apps"][app] for host, survey in surveys.items() if "apps" in survey}
    silent = sorted(set(surveys) - set(states))
    if to not in states:
        raise ReleaseError(f"-e to={to}: expected a host that answers, one of: {', '.join(states)}")
    if dead and dead not in silent:
        answers = "answers, so it is not off" if dead in states else "is no app host"
        raise ReleaseError(f"-e dead={dead}: {dead} {answers}")
    unknown = [host for host in silent if host != dead]
    holders = [host for host, state in states.items() if state["share"].get(process)]
    if unknown and not holders:
        raise ReleaseError(
            f"{', '.join(unknown)} gives no answer, and {process} may run there. If the host is off and stays off, "
            f"-e dead={unknown[0]} starts it on {to}; when that host boots again, it leaves it there"
        )
    live = states[to]["manifest"]
    has = [*(each["name"] for each in defined(live)), *(each["name"] for each in jobs.defined(live))]
    if process not in has:
        raise ReleaseError(f"{to} serves {states[to]['live'] or 'nothing'}, which has no process {process}")
    ends = [host for host in holders if host != to]
    # A host that has it may wait for the dead one to say that it has not.
    return Move(ends=ends, starts=to if ends or dead or to not in holders else "")
