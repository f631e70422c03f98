"""Survey: finds out what is on a host, without changing it. Plans, `status` and the decision that there is nothing to do are made from it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from . import drained, egress, emperors, jobs, maintenance, processes, uwsgi
from . import journal as journals
from . import site as sites
from .gate import Health
from .layout import AppHost, Emperor, Layout, ReleaseError
from .stage import missing, python_tag

if TYPE_CHECKING:
    from praetor.documents import AppSurvey, Looked, Manifest, Survey


def work(
    *,
    apps: dict[str, str],
    wanted: dict[str, Manifest] | None = None,
    probe: bool = False,
    history: int = 0,
) -> Survey:
    """Survey all `apps` (names with their first server name), and name the other apps on the host.

    `wanted` maps names to the manifests of releases that are about to be made live; `probe` asks the live slots for their health;
    `history` is how many of the last lines of each history to return.
    """
    found: dict[str, AppSurvey] = {}
    for name, server_name in apps.items():
        host = AppHost(name)
        state = survey(host, (wanted or {}).get(name))
        found[name] = {**state, **health(host, server_name)} if probe else state
        if history:
            found[name]["history"] = [*journals.history(host)[-history:], *jobs.history(host, history)]
    everywhere = {path.parent.name for path in Layout().apps.glob("*/releases")}
    others = sorted(everywhere - set(found))
    return {
        "apps": found,
        "others": others,
        "python": python_tag(),
        "drained": drained.look(),
        "closed": maintenance.closed(),
    }


def survey(host: AppHost, wanted: Manifest | None = None) -> AppSurvey:
    """The state of one app on this host.

    Args:
        host: the app.
        wanted: the manifest of a release that is about to be made live; adds what it would take.
    """
    live = host.live()
    emperor = host.emperor_of(live) if live else None
    name = live.release if live else None
    since = host.live_since()
    state: AppSurvey = {
        "app": host.app,
        "provisioned": host.run_dir.is_dir() and host.releases_dir.is_dir(),
        "python": python_tag(),
        "live": name,
        "slot": live.name if live else None,
        "since": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(since)) if since else None,
        "running": live is not None and (emperor is not None or not host.serves(live.release)),
        "outdated": _outdated(host, emperor, host.manifest(name) if name else None),
        "releases": host.releases(),
        "bad": journals.bad(host),
        "before": journals.before(host, name),
        "frozen": journals.frozen(host),
        "leftovers": [str(path) for path in host.leftovers()] + [slot.name for slot in host.slots() if slot != live],
        "journal": journals.found(host),
        "settled": name is not None and journals.settled(host, name),
        "made_live_by": journals.made_live_by(host, name) if name else None,
        "made_live_on": journals.made_live_on(host),
        "site": name is None or sites.is_current(host, name),
        "share": processes.share(host),
        "refused": egress.refused(host),
        "processes": processes.look(host),
        "jobs": jobs.look(host),
        "nginx_waits_s": sites.longest_s(host),
        "manifest": host.manifest(name) if name else None,
    }
    if wanted is not None:
        _compare(host, state, wanted)
    return state


def _compare(host: AppHost, state: AppSurvey, wanted: Manifest) -> None:
    """Add what a release that is about to be made live would take."""
    state["uncertified"] = sites.uncertified(host, wanted["settings"]["server_names"])
    state["staged"] = host.manifest(wanted["id"]) is not None
    # An artifact that was not built for this host's Python is refused by the plan, in words.
    state["missing"] = [] if state["staged"] or python_tag() not in wanted["wheels"] else missing(host, wanted)
    state["needed"] = not (
        state["live"] == wanted["id"]
        and state["running"]
        and state["settled"]
        and state["site"]
        and processes.is_current(host)
        and egress.is_current(host, wanted)
        and not (state["leftovers"] or state["journal"] or state["outdated"])
    )


def _outdated(host: AppHost, emperor: Emperor | None, manifest: Manifest | None) -> list[str]:
    """Why the live slot should be started again, under another Emperor."""
    try:
        return emperors.outdated(host, emperor, manifest) if emperor and manifest else []
    except ReleaseError:
        return []  # a host that was not provisioned since: its slots run, and a release says what to do


def health(host: AppHost, server_name: str) -> Looked:
    """What the live slot answers on its private socket, and how its workers are; of processes and jobs alone, whether they run."""
    live = host.live()
    manifest = host.manifest(live.release) if live else None
    found: Looked = {"server_name": server_name, "path": "/", "workers": 0, "busy": 0}
    if live is None or manifest is None:
        return {**found, "health": "nothing is live"}
    if not host.serves(live.release):
        found["path"] = ""
        return {**found, "health": processes.breach_of_rest(host, live, processes.share(host)) or "healthy"}
    check = Health.of(manifest, server_name)
    found["path"] = check.path
    try:
        fastcgi = not host.is_before_fastcgi(live.release)
        answer = uwsgi.get(host.socket(live), check.path, server_name, 5.0, fastcgi=fastcgi)
        counted = uwsgi.counters(host.stats(live))
    except (OSError, ValueError) as error:
        return {**found, "health": f"no answer: {error}"}
    said = "healthy" if check.is_met(answer.status) else f"{check.path} answers {answer.status}"
    return {**found, "health": said, "workers": counted.workers, "busy": counted.busy, "requests": counted.requests}
