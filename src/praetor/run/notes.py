"""Sentences on what stands out in what surveys found, each with what to type. Runs on the controller."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from praetor.host import sandbox

from .away import behind, gone, latest
from .fleet import strangers

if TYPE_CHECKING:
    from praetor.documents import AppSurvey, Running, Survey, Surveys
    from praetor.host.balancer import Servers


def notes(surveys: Surveys) -> list[str]:
    """Return what stands out in the fleet, on its hosts and in their apps, in this order; nothing if all is as it should be."""
    lines = [line for rule in OF_FLEET for line in rule(surveys)]
    for host, survey in surveys.items():
        lines += [f"{host}: {said}" for rule in OF_HOST for said in rule(host, survey)]
        for name, state in survey.get("apps", {}).items():
            lines += [f"{host}: {name} {said}" for rule in OF_APP for said in rule(name, state)]
    return lines


def balancers(surveys: Surveys) -> dict[str, Servers]:
    """What balancers say about the hosts behind them, by balancer; nothing in an inventory without balancers."""
    return {name: look for survey in surveys.values() for name, look in survey.get("balancers", {}).items()}


def is_live(process: Running, state: AppSurvey) -> bool:
    """Whether a process was started with the live slot."""
    return process["number"] == int((state["slot"] or ".0").rpartition(".")[2])


def _strangers(surveys: Surveys) -> Iterator[str]:
    fleet = next((survey["fleet"] for survey in surveys.values() if "fleet" in survey), [])
    for host in strangers(balancers(surveys), fleet):
        yield f"{host}: the balancers know it and the inventory does not; run provision.yml for the balancers"


def _behind(surveys: Surveys) -> Iterator[str]:
    """The apps that some hosts do not have as the last run left them."""
    for app in sorted({name for survey in surveys.values() for name in survey.get("apps", {})}):
        late, newest = behind(app, surveys), latest(app, surveys)
        if late and newest:
            hosts = ",".join(late)
            yield f"{', '.join(late)}: behind; the last run made {app} {newest[1]} live. playbooks/release.yml --limit {hosts} brings it there"


def _gone(surveys: Surveys) -> Iterator[str]:
    """Hosts that have left the inventory. Only a table of the whole inventory tells which."""
    fleet = next((survey["fleet"] for survey in surveys.values() if "fleet" in survey), None)
    for app in sorted({name for survey in surveys.values() for name in survey.get("apps", {})}):
        if fleet is not None and (said := gone(app, surveys, fleet)):
            yield said


def _closed(surveys: Surveys) -> Iterator[str]:
    closed = {app: until for survey in surveys.values() for app, until in survey.get("closed", {}).items()}
    for app, until in closed.items():
        shown = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(until))
        yield f"{app}: in maintenance until {shown}; playbooks/maintenance.yml -e app={app} -e end=true ends it"


def _drained(host: str, survey: Survey) -> Iterator[str]:
    if said := survey.get("drained"):
        why = f": {said['why']}" if said["why"] else ""
        yield f"drained since {said['since']} by {said['by']}{why}; playbooks/undrain.yml -e host={host} ends it"


def _others(_host: str, survey: Survey) -> Iterator[str]:
    for name in survey.get("others", []):
        yield f"{name} is on the host and not in the inventory; playbooks/remove.yml -e app={name} removes it"


def _locked(_app: str, state: AppSurvey) -> Iterator[str]:
    if state["journal"]:
        owner = state["journal"]["run"]["owner"]
        yield f"is locked by {owner['user']}@{owner['host']} in phase {state['journal']['phase']}"


def _leftovers(_app: str, state: AppSurvey) -> Iterator[str]:
    if state["leftovers"]:
        yield f"has leftovers of an interrupted run, which the next run repairs: {', '.join(state['leftovers'])}"


def _old_processes(app: str, state: AppSurvey) -> Iterator[str]:
    """Processes of other releases: they are finishing their work, or failed to."""
    for each in state["processes"]:
        if is_live(each, state):
            continue
        name = f"{each['release']} {each['process']} {each['instance']}"
        if each["state"] == "failed":
            unit = f"app-{app}-{each['process']}-{each['number']}@{each['instance']}"
            yield f"had {name} end with a failure when it was told to end; journalctl -u {unit}; the next release forgets it"
        else:
            yield f"{'is draining' if each['state'] == 'deactivating' else 'still runs'} {name}"


def _ended_processes(app: str, state: AppSurvey) -> Iterator[str]:
    for each in state["processes"]:
        if is_live(each, state) and each["state"] != "active":
            unit = f"app-{app}-{each['process']}-{each['number']}@{each['instance']}"
            yield f"{each['process']} {each['instance']} is {each['state']}, after {each['ended']}; journalctl -u {unit}"


def _jobs(app: str, state: AppSurvey) -> Iterator[str]:
    for job in state["jobs"]:
        if job["result"] != "success" or not (job["next"] or job["running"]):
            problem = f"failed when it last ran ({job['result']})" if job["next"] else "is not scheduled"
            yield f"job {job['job']} {problem}; journalctl -u app-{app}-{job['job']}"


def _frozen(_app: str, state: AppSurvey) -> Iterator[str]:
    if state["frozen"]:
        yield f"is frozen by {state['frozen']['by']}: {state['frozen']['reason']}"


def _loosened(_app: str, state: AppSurvey) -> Iterator[str]:
    loosened = sandbox.loosened(state["manifest"]) if state["manifest"] else {}
    for directive, reason in loosened.items():
        yield f"runs without {directive} of the sandbox: {reason}"


def _refused(_app: str, state: AppSurvey) -> Iterator[str]:
    if refused := state.get("refused"):
        yield f"tried to connect to {', '.join(refused)} since a day ago, which its egress does not allow"


def _outdated(_app: str, state: AppSurvey) -> Iterator[str]:
    for why in state["outdated"]:
        yield f"should be started again, by release.yml or refresh.yml: {why}"


def _unsettled(_app: str, state: AppSurvey) -> Iterator[str]:
    if state["live"] and not state["settled"]:
        yield f"{state['live']} was not settled: its run was interrupted; run release.yml again"


# In the order in which they are said.
OF_FLEET: tuple[Callable[[Surveys], Iterator[str]], ...] = (_strangers, _gone, _behind, _closed)
OF_HOST: tuple[Callable[[str, Survey], Iterator[str]], ...] = (_drained, _others)
OF_APP: tuple[Callable[[str, AppSurvey], Iterator[str]], ...] = (
    *(_locked, _leftovers, _old_processes, _ended_processes, _jobs),
    *(_frozen, _loosened, _refused, _outdated, _unsettled),
)
