"""Hosts that do not answer, that a run leaves out, and that are behind the others. Pure decisions over surveys; runs on the controller."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TypedDict

from praetor.documents import Surveys

NAMED = 20  # hosts that a history names in full: each host keeps the list for each of its releases
_KEY_CHANGED = (
    "its host key is not the one that this controller knows, so another machine is at its address, or it was installed again. "
    "If that is so: ssh-keygen -R ADDRESS, or the file that UserKnownHostsFile names, and log in once"
)


def reason(said: str) -> str:
    """Why a host could not be reached, out of all that Ansible and ssh say about it."""
    if "Host key verification failed" in said:
        return _KEY_CHANGED if "IDENTIFICATION HAS CHANGED" in said else "its host key is not known to this controller"
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    last = lines[-1] if lines else "no reason was given"
    # ssh's own words follow those of Ansible, behind "ssh:" each.
    return last.rpartition("ssh: ")[2].strip() or last


def absent(surveys: Surveys) -> dict[str, str]:
    """The hosts that gave no answer, each with the reason."""
    return {host: str(survey["away"]) for host, survey in surveys.items() if "away" in survey}


def refusal(surveys: Surveys, limit: str = "") -> str:
    """Why a run must not begin while hosts are away, and the two ways to go on; empty when all have answered.

    Args:
        surveys: of all hosts of the run.
        limit: the `--limit` of the run.
    """
    away = absent(surveys)
    if not away:
        return ""
    lines = [f"{host} does not answer: {why}" for host, why in away.items()]
    them = ", ".join(away)
    lines.append("Nothing was changed; every host that serves goes on serving what it did.")
    lines.append(f"1. Wait for {them}, or repair what is wrong there, and run the same command again.")
    if len(away) < len(surveys):
        others = ",".join([*([limit] if limit else []), *(f"!{host}" for host in away)])
        it, has, is_ = ("it", "has", "is") if len(away) == 1 else ("they", "have", "are")
        lines.append(
            f"2. Leave {them} behind: run the same command with --limit '{others}'. Once {it} {has} come back with an old release, playbooks/status.yml says "
            f"that {it} {is_} behind: playbooks/release.yml --limit {','.join(away)} then brings what the others serve."
        )
    return "\n".join(lines)


def left_out(app_hosts: Iterable[str], run: Iterable[str]) -> list[str]:
    """The app hosts that a run leaves out, as its history keeps them."""
    chosen = set(run)
    return named([host for host in app_hosts if host not in chosen])


def named(hosts: list[str]) -> list[str]:
    """Hosts as a history keeps them."""
    return hosts if len(hosts) <= NAMED else [*hosts[:NAMED], f"{len(hosts) - NAMED} more"]


def gone(app: str, surveys: Surveys, app_hosts: Collection[str]) -> str:
    """Which hosts the last run of an app knew and the inventory does not, and what to do; empty for none. A history names the first hosts of a large fleet."""
    newest = latest(app, surveys)
    known = surveys[newest[0]]["apps"][app].get("made_live_on", []) if newest else []
    away = [host for host in known if host not in app_hosts and " " not in host]  # "3 more" is none
    if not away:
        return ""
    return (
        f"{', '.join(away)}: the last run of {app} knew it, and the inventory does not: if it is on, it serves what it did. "
        "Turn it off, or give the inventory its name back; after the next release nobody knows of it"
    )


def latest(app: str, surveys: Surveys) -> tuple[str, str] | None:
    """The host on which the last run that went well made an app's release live, and that release.

    Ids of runs begin with the controller's time, so hosts' clocks do not matter.
    """
    states = {host: survey["apps"][app] for host, survey in surveys.items() if app in survey.get("apps", {})}
    found = [(run, host, str(state["live"])) for host, state in states.items() if (run := state["made_live_by"])]
    if not found:
        return None
    _, host, release = max(found, key=lambda each: each[0])
    return host, release


def behind(app: str, surveys: Surveys) -> list[str]:
    """The hosts that serve another release of an app than the last run that went well made live, or nothing."""
    newest = latest(app, surveys)
    return [
        host
        for host, survey in surveys.items()
        if newest and app in survey.get("apps", {}) and survey["apps"][app]["live"] != newest[1]
    ]


class CatchUp(TypedDict):
    """An app that hosts of a run are behind with."""

    app: str
    release: str  # what they get
    host: str  # serves it
    behind: list[str]
    tags: list[str]  # wheel tags of the Pythons of the run's hosts


def to_catch_up(surveys: Surveys, others: Surveys) -> list[CatchUp]:
    """The apps that a run with `--limit` brings to what hosts outside of it serve.

    Args:
        surveys: of the hosts of the run.
        others: of hosts that it leaves out; those that are away count for nothing.
    """
    everywhere = {**surveys, **others}
    found: list[CatchUp] = []
    for app in sorted({name for survey in surveys.values() for name in survey.get("apps", {})}):
        newest = latest(app, everywhere)
        late = [host for host in behind(app, everywhere) if host in surveys]
        if newest and late and newest[0] in others:
            tags = sorted({str(survey["python"]) for survey in surveys.values()})
            found.append({"app": app, "release": newest[1], "host": newest[0], "behind": late, "tags": tags})
    return found
