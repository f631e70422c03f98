"""What a run would do on which host, and whether it may. Pure decisions over surveys; runs on the controller."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from typing import Any

from praetor.documents import AppSurvey, Entry, Manifest, Release, Settings, Survey, Surveys, Target
from praetor.host.journal import LEASE_S
from praetor.host.layout import ReleaseError
from praetor.host.processes import share_of

from .batches import batches
from .story import listed, together

# What Ansible takes itself, on a slow controller: to go over to the next batch, and for all phases of a host.
BATCH_S, HOST_S = 3, 1


def needed(release: Release, surveys: Surveys) -> bool:
    """Whether a release has to travel: on some host it is not live or not settled, or the number of its processes there has to change."""
    return any(
        survey["apps"][release["app"]]["needed"] or moved(release, host, survey) for host, survey in surveys.items()
    )


def _live_settings(release: Release, surveys: Surveys) -> list[Settings]:
    """The settings of the live release, for each host that serves the app."""
    manifests = [survey["apps"][release["app"]]["manifest"] for survey in surveys.values()]
    return [manifest["settings"] for manifest in manifests if manifest]


def announced(release: Release, surveys: Surveys) -> bool:
    """Whether balancers must know of a release before it serves: they hold its names, its health check and its longest request."""
    wanted = release["manifest"]["settings"]
    live = _live_settings(release, surveys)
    if not wanted["server_names"]:
        return False  # no client asks for it
    return not live or any(
        wanted["health"] != each["health"]
        or wanted["server_names"] != each["server_names"]
        or wanted.get("redirect_names", []) != each.get("redirect_names", [])
        or wanted["limits"]["request_s"] != each["limits"]["request_s"]
        or wanted.get("http") != each.get("http")
        for each in live
    )


def moved(release: Release, host: str, survey: Survey) -> bool:
    """Whether the number of some process that a host runs has to change."""
    own = survey["apps"][release["app"]]["share"]
    return share_of(release["manifest"], own, release["places"][host]) != own


def _unreachable(release: Release, surveys: Surveys) -> list[str]:
    """Why balancers could not reach both the hosts that have a release and those that do not yet."""
    names = release["manifest"]["settings"]["server_names"]
    live = _live_settings(release, surveys)
    if not names or all(set(names) & set(each["server_names"]) for each in live):
        return []
    before = listed(sorted({name for each in live for name in each["server_names"]}))
    why = f"found {listed(names)} in server_names and none of {before}, which is live: balancers reach hosts by a name that both have"
    return [f"{release['app']}: {why}. Release it with the old and the new ones first, then without the old ones"]


def refusals(
    release: Release, surveys: Surveys, *, force: bool, planning: bool = False, balanced: bool = False
) -> list[str]:
    """Why a release must not travel, a sentence per host and reason.

    Args:
        release: the release.
        surveys: of all hosts.
        force: whether marks and freezes are overridden.
        planning: whether this is a dry run, in which a host may still be bare: the plan says that it would be provisioned.
        balanced: whether balancers reach the hosts by a name of the app.
    """
    found = _unreachable(release, surveys) if balanced else []
    for host, survey in surveys.items():
        state = survey["apps"][release["app"]]
        marked, freeze = state["bad"].get(release["id"]), state["frozen"]
        if not state["provisioned"] and not planning:
            found.append(
                f"{host}: was not provisioned for {release['app']}; run playbooks/deploy.yml (hosts and apps) or playbooks/provision.yml (hosts only) first"
            )
        if marked and not force:
            found.append(
                f"{host}: {release['id']} is marked bad since {marked['ts']}: {marked['reason']}. -e force=true releases it anyway"
            )
        if freeze and not force:
            until = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(freeze["until"]))
            found.append(
                f"{host}: releases of {release['app']} are frozen until {until} by {freeze['by']}: {freeze['reason']}. Rollback is possible; -e force=true overrides"
            )
        if state["python"] not in release["manifest"]["wheels"]:
            tags = ", ".join(sorted(release["manifest"]["wheels"]))
            found.append(
                f"{host}: has {state['python']}, and {release['app']} was built for {tags} only. Does requires-python in its pyproject.toml exclude it? "
                "If the host was upgraded since the last run, run the same command again: it is built for its Python and processor now"
            )
    return found


def target(app: Entry, release: str, hosts: list[str]) -> Target:
    """A release of an app, an entry of the inventory, as it goes over hosts that have it already."""
    return {
        "app": app["name"],
        "id": release,
        "server_name": next(iter(app["server_names"]), ""),
        "options": app["release"],
        "batches": batches(hosts, app["release"]["batches"]),
    }


def lease_s(releases: Sequence[Target]) -> float:
    """Seconds that the run may be silent on a host: those of a phase, what Ansible takes for all hosts, and all the batches that it waits for."""
    return LEASE_S + max(
        (
            len(each["batches"]) * (BATCH_S + each["options"]["bake_s"]) + HOST_S * sum(map(len, each["batches"]))
            for each in releases
        ),
        default=0,
    )


def rollback_target(app: str, surveys: Surveys, wanted: str, *, force: bool) -> str:
    """The release that all hosts go back to.

    Args:
        app: the app.
        surveys: of all hosts.
        wanted: the release that was asked for; empty for the one that was live before the live one.
        force: take one that is marked bad, too.

    Raises:
        ReleaseError: there is none, the hosts disagree, or the one asked for is not on every host.
    """
    states = {host: survey["apps"][app] for host, survey in surveys.items()}
    if not wanted:
        found = {state["before"] for state in states.values()}
        if found == {None}:
            raise ReleaseError(
                f"Nothing was changed. {app}: no host has a good release from before the live one; -e release=ID takes any of: {_common(states)}"
            )
        if len(found) > 1:
            said = ", ".join(f"{host} to {state['before'] or 'nothing'}" for host, state in states.items())
            raise ReleaseError(
                f"Nothing was changed. {app}: the hosts would go back to different releases ({said}); choose one with -e release=ID out of: {_common(states)}"
            )
        wanted = str(found.pop())
    absent = [host for host, state in states.items() if wanted not in state["releases"]]
    if absent:
        raise ReleaseError(
            f"Nothing was changed. {app}: {wanted} is not on {', '.join(absent)}; on all hosts there are: {_common(states)}"
        )
    marked = {host: state["bad"][wanted] for host, state in states.items() if wanted in state["bad"]}
    if marked and not force:
        host, entry = next(iter(marked.items()))
        raise ReleaseError(
            f"Nothing was changed. {app}: {wanted} is marked bad on {host} since {entry['ts']}: {entry['reason']}. -e force=true takes it anyway"
        )
    return wanted


def live_everywhere(app: str, surveys: Surveys) -> str:
    """The release of an app that is live on all hosts.

    Raises:
        ReleaseError: nothing is live, or not the same.
    """
    states = {host: survey["apps"][app] for host, survey in surveys.items()}
    found = {state["live"] for state in states.values()}
    if len(found) == 1 and (live := found.pop()):
        return str(live)
    said = ", ".join(f"{host}: {state['live'] or 'nothing'}" for host, state in states.items())
    raise ReleaseError(
        f"Nothing was changed. {app}: not the same release is live on all hosts ({said}). playbooks/release.yml makes it so"
    )


def _common(states: Mapping[str, AppSurvey]) -> str:
    first, *rest = (state["releases"] for state in states.values())
    return ", ".join(release for release in first if all(release in other for other in rest)) or "none"


def describe_all(releases: list[Release], surveys: Surveys) -> str:
    """The plan of a run, for people: each app's, and where its words are explained."""
    lines = [describe(release, surveys) for release in releases]
    if any(needed(release, surveys) for release in releases):
        lines.append("Stage, gate, flip, bake, settle: docs/glossary.md says what they mean.")
    return "\n".join(lines)


def describe(release: Release, surveys: Surveys) -> str:
    """The plan for one app, for people: from what to what, packages, settings, and what would happen on each host."""
    new = release["manifest"]
    lines = [f"{release['app']}: release {release['id']} ({_origin(new)})", *_kept_and_left(new)]
    health = new["settings"]["health"]
    if new["settings"]["wsgi"] and health["path"] is None and health["status"] is None:
        lines.append(
            "  the gate asks for / and takes any answer below 500: that shows that the app runs, not that it can work; health.path names an address that shows more"
        )
    done: list[tuple[str, str]] = []
    said: list[tuple[str, str]] = []
    shown: list[str] = []
    for host, survey in surveys.items():
        state = survey["apps"][release["app"]]
        if not state["needed"] and not moved(release, host, survey):
            done.append((str(state["since"]), host))
            continue
        old = state["manifest"]
        said.append((host, f"{state['live'] or 'nothing live'} -> {release['id']}; {_work(release, state)}"))
        asked = new["settings"]["limits"]["request_s"] if new["settings"]["wsgi"] else 0
        if (state["nginx_waits_s"] or asked) < asked:
            waits = f"when NGINX is stopped it waits {state['nginx_waits_s']} s for requests"
            said.append((host, f"{waits}; playbooks/provision.yml makes that more than limits.request_s"))
        for line in differences(old, new, state["python"]) if old else []:
            if line not in shown:
                shown.append(line)
    if done:
        lines.append(f"  {listed([host for _, host in done])}: live since {max(done)[0]}; nothing to do")
    return "\n".join([*lines, *(f"  {line}" for line in together(said)), *(f"    {line}" for line in shown)])


def differences(old: Manifest, new: Manifest, python: str) -> list[str]:
    """What changes from one release to the next: commit, packages, settings, secrets (names only)."""
    lines = []
    if old["commit"] != new["commit"]:
        lines.append(f"commit {_short(old['commit'])} -> {_short(new['commit'])}")
    before, after = (_packages(manifest, python) for manifest in (old, new))
    for name in sorted({*before, *after}):
        if before.get(name) != after.get(name):
            lines.append(_change("package " + name, before.get(name), after.get(name)))
    was, will = _flat(old["settings"]), _flat(new["settings"])
    lines += [
        _change(name, was.get(name), will.get(name))
        for name in sorted({*was, *will})
        if was.get(name) != will.get(name)
    ]
    secrets = old.get("secrets", {}), new.get("secrets", {})
    for name in sorted({*secrets[0], *secrets[1]}):
        if secrets[0].get(name) != secrets[1].get(name):
            kind = "added" if name not in secrets[0] else "removed" if name not in secrets[1] else "changed"
            lines.append(f"secret {name} {kind} (not shown)")
    if _files_of(old) != _files_of(new):
        lines.append("files of the project changed")
    return lines


def _files_of(manifest: Manifest) -> str | None:
    return manifest["tree"]["digest"] if manifest["tree"] else None


def _work(release: Release, state: AppSurvey) -> str:
    steps = [] if state["provisioned"] else ["provision the host"]
    if state["outdated"] and state["live"] == release["id"]:
        steps.append(f"start it again, because {'; '.join(state['outdated'])}")
    if state["journal"] or state["leftovers"]:
        steps.append("repair what an interrupted run left")
    if not state["staged"]:
        steps.append(f"stage ({len(state['missing'])} files to send)")
    commands = release["commands"]
    if commands["migrate"]:
        steps.append(f"migrate ({'each host' if commands['migrate_on'] == 'each' else 'one host'})")
    return ", ".join([*steps, "gate", f"flip and bake {release['options']['bake_s']} s", "settle"])


def _origin(manifest: Manifest) -> str:
    commit = (
        f", commit {_short(manifest['commit'])}{' and changes that are not committed' if manifest['dirty'] else ''}"
        if manifest["commit"]
        else ""
    )
    return f"from {manifest['source']}{commit}"


def _kept_and_left(manifest: Manifest) -> list[str]:
    """What chose the packages' versions, and which files of the project are not shipped."""
    lines = [f"  packages: {manifest['locked_by']}"] if manifest.get("locked_by") else []
    left_out = manifest.get("left_out", [])
    more = f" and {len(left_out) - 8} more" if len(left_out) > 8 else ""
    return [*lines, *([f"  not shipped: {', '.join(left_out[:8])}{more}"] if left_out else [])]


def _short(commit: str | None) -> str:
    return commit[:10] if commit else "(none)"


def _packages(manifest: Manifest, python: str) -> dict[str, str]:
    entries = manifest["wheels"].get(python, [])
    # The app's own wheel keeps its version between commits: its content tells.
    return {entry["name"]: f"{entry['version']} ({entry['sha256'][:8]})" for entry in entries}


def _flat(value: Any, where: str = "") -> dict[str, Any]:
    if isinstance(value, dict) and value:
        return {
            name: inner
            for key in value
            for name, inner in _flat(value[key], f"{where}.{key}" if where else str(key)).items()
        }
    # What says nothing is no setting: a key that is new in this version is no change of the app.
    return {where: value} if where and value not in ({}, [], "") else {}


def _change(what: str, old: Any, new: Any) -> str:
    old, new = (
        f"{len(text.splitlines())} lines ({hashlib.sha256(text.encode()).hexdigest()[:8]})"
        if isinstance(text, str) and "\n" in text.strip()
        else text
        for text in (old, new)
    )
    if old is None:
        return f"{what} added: {new}"
    return f"{what} removed (was {old})" if new is None else f"{what}: {old} -> {new}"
