"""Tables of what surveys found: rows of plain columns, as JSON has them; `printed` has them for people. Runs on the controller."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from .away import behind, latest, reason
from .fleet import strangers

if TYPE_CHECKING:
    from praetor.documents import AppSurvey, Running, Survey, Surveys
    from praetor.host.balancer import Servers

from praetor.host import sandbox

Row = dict[str, object]


def status(surveys: Surveys) -> list[Row]:
    """A row per host and app: what is live, since when, and how it is."""
    rows: list[Row] = []
    apps = {name for survey in surveys.values() for name in survey.get("apps", {})}
    late = {name: set(behind(name, surveys)) for name in apps}
    for host, survey in surveys.items():
        if "apps" not in survey:
            why = survey.get("away") or reason(str(survey.get("msg", "")))
            rows.append(_row(host, "-", "-", "-", "-", f"no answer: {why}"))
        for name, state in survey.get("apps", {}).items():
            workers = f"{state['workers']} ({state['busy']} busy)" if state["workers"] else "0"
            workers = workers if state["path"] else "-"
            health = _health(state) + (", behind" if state["live"] and host in late[name] else "")
            rows.append(_row(host, name, state["live"] or "-", state["since"] or "-", workers, health))
    running = {
        (host, name): _processes(state)
        for host, survey in surveys.items()
        for name, state in survey.get("apps", {}).items()
    }
    for row in rows if any(running.values()) else []:
        row["processes"] = running.get((str(row["host"]), str(row["app"]))) or "-"
    looks = balancers(surveys)
    for row in rows if looks else []:
        row["balancers"] = _said_by(looks, str(row["host"]), str(row["app"]))
    return rows


def _processes(state: AppSurvey) -> str:
    """What runs of what should, as `worker 2/2, beat 1/1`; a process that runs on other hosts only is left out."""
    well = [each for each in state["processes"] if _is_live(each, state) and each["state"] == "active"]
    names = [each["process"] for each in well]
    jobs = {each["job"] for each in state["jobs"]}
    return ", ".join(
        f"{name} scheduled" if name in jobs else f"{name} {names.count(name)}/{count}"
        for name, count in state["share"].items()
        if count
    )


def _is_live(process: Running, state: AppSurvey) -> bool:
    """Whether a process was started with the live slot."""
    return process["number"] == int((state["slot"] or ".0").rpartition(".")[2])


def balancers(surveys: Surveys) -> dict[str, Servers]:
    """What balancers say about the hosts behind them, by balancer; nothing in an inventory without."""
    return {name: look for survey in surveys.values() for name, look in survey.get("balancers", {}).items()}


def _said_by(looks: dict[str, Servers], host: str, app: str) -> str:
    """`UP` where all balancers agree, else what each one says."""
    said = {}
    for name, look in looks.items():
        known = look.get(app, {})
        said[name] = known[host]["status"] if host in known else "unknown"
    if len(set(said.values())) == 1:
        return str(next(iter(said.values())))
    return ", ".join(f"{name} {status}" for name, status in said.items())


def demo(surveys: Surveys) -> list[Row]:
    """A row per host and app, with a line to try it; hosts that clients reach at the same address share theirs."""
    found: dict[tuple[str, ...], list[str]] = {}
    for host, survey in surveys.items():
        for name, state in survey.get("apps", {}).items():
            same = (survey["address"], name, state["live"] or "-", _health(state), _curl(survey, state))
            found.setdefault(same, []).append(host)
    columns = ("address", "app", "release", "health", "try")
    return [{"host": ", ".join(hosts), **dict(zip(columns, same, strict=True))} for same, hosts in found.items()]


def _curl(survey: Survey, state: AppSurvey) -> str:
    """A command that works without a change to name resolution; `authority` is given where clients do not know it yet. `-` of an app without a site."""
    if not state["server_name"]:
        return "-"
    name, address = state["server_name"], survey["address"]
    if not survey["tls"]:
        return f"curl -H 'Host: {name}' http://{address}{state['path']}"
    trusted = f"--cacert {survey['authority']} " if survey["authority"] else ""
    return f"curl {trusted}--resolve {name}:443:{address} https://{name}{state['path']}"


def history(surveys: Surveys) -> list[Row]:
    """A row per host and event, oldest first."""
    rows: list[Row] = []
    for host, survey in surveys.items():
        for name, state in survey.get("apps", {}).items():
            for entry in state["history"]:
                without = f"without {', '.join(entry['without'])}: " if entry.get("without") else ""
                rows.append(
                    {
                        "when": entry["ts"],
                        "host": host,
                        "app": name,
                        "action": entry["action"],
                        "from": entry.get("from") or "-",
                        "to": entry.get("to") or "-",
                        "result": entry.get("result", "-"),
                        "seconds": entry.get("duration_s", "-"),
                        "by": entry.get("by", "-"),
                        "why": without + _first_line(entry.get("why")),
                        "reason": _first_line(entry.get("reason")),
                        "run": entry.get("run", "-"),
                    }
                )
    return sorted(rows, key=lambda row: str(row["when"]))


def _first_line(said: str | None) -> str:
    return said.splitlines()[0][:100] if said else ""


TABLES: dict[str, Callable[[Surveys], list[Row]]] = {"status": status, "demo": demo, "history": history}


def notes(surveys: Surveys) -> list[str]:
    """Sentences on what stands out: locks, freezes, leftovers, bad releases, apps that the inventory does not name."""
    lines = [
        f"{host}: the balancers know it and the inventory does not; run provision.yml for the balancers"
        for host in strangers(
            balancers(surveys), next((survey["fleet"] for survey in surveys.values() if "fleet" in survey), [])
        )
    ]
    lines += _behind(surveys)
    closed = {app: until for survey in surveys.values() for app, until in survey.get("closed", {}).items()}
    lines += [
        f"{app}: in maintenance until {time.strftime('%Y-%m-%d %H:%M:%S UTC', time.gmtime(until))}; "
        f"playbooks/maintenance.yml -e app={app} -e end=true ends it"
        for app, until in closed.items()
    ]
    for host, survey in surveys.items():
        if said := survey.get("drained"):
            why = f": {said['why']}" if said["why"] else ""
            lines.append(
                f"{host}: drained since {said['since']} by {said['by']}{why}; playbooks/undrain.yml -e host={host} ends it"
            )
        lines += [
            f"{host}: {name} is on the host and not in the inventory; playbooks/remove.yml -e app={name} removes it"
            for name in survey.get("others", [])
        ]
        for name, state in survey.get("apps", {}).items():
            if state["journal"]:
                owner = state["journal"]["run"]["owner"]
                lines.append(
                    f"{host}: {name} is locked by {owner['user']}@{owner['host']} in phase {state['journal']['phase']}"
                )
            if state["leftovers"]:
                lines.append(
                    f"{host}: {name} has leftovers of an interrupted run, which the next run repairs: {', '.join(state['leftovers'])}"
                )
            lines += [
                f"{host}: {name} is draining {each['release']} {each['process']} {each['instance']}"
                if each["state"] == "deactivating"
                else f"{host}: {name} still runs {each['release']} {each['process']} {each['instance']}"
                for each in state["processes"]
                if not _is_live(each, state)
            ]
            lines += [
                f"{host}: {name} {each['process']} {each['instance']} is {each['state']}, after {each['ended']}; "
                f"journalctl -u app-{name}-{each['process']}-{each['number']}@{each['instance']}"
                for each in state["processes"]
                if _is_live(each, state) and each["state"] != "active"
            ]
            lines += [
                f"{host}: {name} job {job['job']} "
                + (f"failed when it last ran ({job['result']})" if job["next"] else "is not scheduled")
                + f"; journalctl -u app-{name}-{job['job']}"
                for job in state["jobs"]
                if job["result"] != "success" or not (job["next"] or job["running"])
            ]
            if state["frozen"]:
                lines.append(f"{host}: {name} is frozen by {state['frozen']['by']}: {state['frozen']['reason']}")
            lines += [
                f"{host}: {name} runs without {directive} of the sandbox: {reason}"
                for directive, reason in (sandbox.loosened(state["manifest"]) if state["manifest"] else {}).items()
            ]
            lines += [
                f"{host}: {name} should be started again, by release.yml or refresh.yml: {why}"
                for why in state["outdated"]
            ]
            if state["live"] and not state["settled"]:
                lines.append(
                    f"{host}: {name} {state['live']} was not settled: its run was interrupted; run release.yml again"
                )
    return lines


def _behind(surveys: Surveys) -> list[str]:
    """A sentence for each app that not all hosts have as the last run left it."""
    lines = []
    for app in sorted({name for survey in surveys.values() for name in survey.get("apps", {})}):
        late, newest = behind(app, surveys), latest(app, surveys)
        if late and newest:
            lines.append(
                f"{', '.join(late)}: behind; the last run made {app} {newest[1]} live. playbooks/release.yml --limit {','.join(late)} brings it there"
            )
    return lines


def _health(state: AppSurvey) -> str:
    if not state["provisioned"]:
        return "not provisioned"
    return state["health"] if state["running"] or not state["live"] else f"{state['slot']} does not run"


def _row(*cells: str) -> Row:
    return dict(zip(("host", "app", "live", "since", "workers", "health"), cells, strict=True))
