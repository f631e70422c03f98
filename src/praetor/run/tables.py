"""Tables of what surveys found: rows of plain columns, as JSON has them; `printed` has them for people. Runs on the controller."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from .away import behind, reason
from .notes import balancers, is_live

if TYPE_CHECKING:
    from praetor.documents import AppSurvey, Survey, Surveys
    from praetor.host.balancer import Servers

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
    well = [each for each in state["processes"] if is_live(each, state) and each["state"] == "active"]
    names = [each["process"] for each in well]
    jobs = {each["job"] for each in state["jobs"]}
    return ", ".join(
        f"{name} scheduled" if name in jobs else f"{name} {names.count(name)}/{count}"
        for name, count in state["share"].items()
        if count
    )


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


def _health(state: AppSurvey) -> str:
    if not state["provisioned"]:
        return "not provisioned"
    return state["health"] if state["running"] or not state["live"] else f"{state['slot']} does not run"


def _row(*cells: str) -> Row:
    return dict(zip(("host", "app", "live", "since", "workers", "health"), cells, strict=True))
