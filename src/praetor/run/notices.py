"""Tells people and programs what a run does, and runs the operator's commands around it. On the controller; no host is contacted."""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import os
import subprocess
import time
import urllib.error
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

from praetor.build.cache import place
from praetor.host import output
from praetor.inventory.notices import EventName, Mail, Notice, Notices, plain

from .story import shown

PATIENCE_S = 10.0  # for each that is told: a release does not wait longer for a dead server
MOST_COMMITS = 50
LONGEST_REASON = 500  # characters
_NAMES = ("release_notify", "release_hooks")
_PORTS = {"starttls": 587, "immediate": 465, "none": 25}


class Event(TypedDict):
    """What happened, as a webhook gets it."""

    event: EventName
    action: str  # release, rollback or refresh
    app: str
    release: str
    before: str  # the release that was live, empty for none or several
    hosts: list[str]
    commits: list[str]  # "abbreviated subject" between both, newest first
    reason: str  # of a failure
    by: str
    why: str
    inventory: str
    time: str  # UTC
    duration_s: int
    history: str  # what to type to read more


def given(resolve: Callable[[Any], Any], variables: Mapping[str, Any]) -> Notices | None:
    """Return the receivers and hooks that the inventory names; None if it has neither, or if the run is a plan.

    Args:
        resolve: opens what is vaulted and fills in templates.
        variables: Ansible's, of the host that the task runs for.
    """
    if not is_wanted(variables):
        return None
    return Notices.model_validate({name: plain(resolve, variables[name]) for name in _NAMES if variables.get(name)})


def is_wanted(variables: Mapping[str, Any]) -> bool:
    """Tell whether the inventory names receivers of notices or hooks, and the run is more than a plan."""
    return any(variables.get(name) for name in _NAMES) and not variables["ansible_check_mode"]


def event_of(args: Mapping[str, Any], variables: Mapping[str, Any]) -> Event:
    """What a run does or has done.

    Args:
        args: those of app_notice; of a build `action`, `app` and `root` alone.
        variables: Ansible's, of the host that the task runs for.
    """
    run, release = args.get("run") or {}, args.get("release") or {}
    action, app = (
        str(run.get("action") or args.get("action") or "build"),
        str(release.get("app") or args.get("app") or ""),
    )
    hosts = [str(host) for host in variables["ansible_play_hosts_all"]]
    states = [
        (variables["hostvars"][host].get(args.get("register")) or {}).get("apps", {}).get(app) or {} for host in hosts
    ]
    before = {str(state.get("live") or "") for state in states}
    failure = args.get("failure") or {}
    problem = next(iter((failure.get("reasons") or {}).values()), "")
    reason = " ".join(f"{failure['what']}: {problem}".split()).removesuffix(":") if failure else ""
    inventory = shown(Path(str((variables.get("ansible_inventory_sources") or ["INVENTORY"])[0])))
    owner = run.get("owner") or {}
    ended_well: EventName = "rollback" if action == "rollback" else "success"
    events: dict[str, EventName] = {"start": "start", "failure": "failure", "success": ended_well}
    return {
        "event": events[args.get("event", "start")],
        "action": action,
        "app": app,
        "release": str(release.get("id") or ""),
        "before": before.pop() if len(before) == 1 else "",
        "hosts": hosts,
        "commits": _commits(
            app, release, states, {**args, "cache": variables.get("release_cache") or "~/.cache/praetor"}
        ),
        "reason": reason[:LONGEST_REASON],
        "by": f"{owner['user']}@{owner['host']}" if owner else "",
        "why": str(run.get("why") or ""),
        "inventory": inventory,
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "duration_s": since(run["id"]) if run else 0,
        "history": f"ansible-playbook playbooks/history.yml -i {inventory} -e app={app}",
    }


def _commits(app: str, release: Mapping[str, Any], states: list[dict[str, Any]], args: Mapping[str, Any]) -> list[str]:
    """The commits between what was live and what is released, where the controller has the repository."""
    new = (release.get("manifest") or {}).get("commit")
    old = next((state["manifest"]["commit"] for state in states if state.get("manifest")), None)
    source: Mapping[str, str] = next((each["source"] for each in args.get("apps") or [] if each["name"] == app), {})
    if source.get("git"):
        mirror = place(args["cache"]) / "git" / hashlib.sha256(source["git"].encode()).hexdigest()[:16]
        return commits(mirror, old, new, source.get("subdir") or ".")
    if source.get("path"):
        return commits(Path(args["root"]) / source["path"], old, new)
    return []


def sentence(event: Event) -> str:
    """What happened, as a line for people."""
    hosts = event["hosts"]
    where = ", ".join(hosts) if len(hosts) <= 4 else f"{len(hosts)} hosts"
    what = f"{event['app']} {event['release']}"
    was = f" (was {event['before']})" if event["before"] and event["before"] != event["release"] else ""
    match event["event"]:
        case "start":
            text = f"{event['action']} of {what}{was} to {where} begins"
        case "failure":
            text = f"{event['action']} of {what} failed after {event['duration_s']} s: {event['reason']}"
        case _:
            text = f"{what}{was} is live on {where} after {event['duration_s']} s, by {event['action']}"
    why = f" - {event['why']}" if event["why"] else ""
    return f"{text}, by {event['by']}{why}"


def report(event: Event) -> str:
    """What happened, with the commits and where to read more."""
    commits = event["commits"]
    more = [f"and {len(commits) - 10} more"] if len(commits) > 10 else []
    return "\n".join([sentence(event), *commits[:10], *more, event["history"]])


def environment(event: Event, hook: str) -> dict[str, str]:
    """The variables that commands find besides the controller's own."""
    return {
        **os.environ,
        "PRAETOR_HOOK": hook,
        "PRAETOR_ACTION": event["action"],
        "PRAETOR_RESULT": "" if event["event"] == "start" else "failed" if event["event"] == "failure" else "live",
        "PRAETOR_APP": event["app"],
        "PRAETOR_RELEASE": event["release"],
        "PRAETOR_FROM": event["before"],
        "PRAETOR_COMMITS": "\n".join(event["commits"]),
        "PRAETOR_HOSTS": " ".join(event["hosts"]),
        "PRAETOR_REASON": event["reason"],
        "PRAETOR_BY": event["by"],
        "PRAETOR_WHY": event["why"],
        "PRAETOR_INVENTORY": event["inventory"],
        "PRAETOR_DURATION_S": str(event["duration_s"]),
    }


def tell(notices: Sequence[Notice], event: Event, root: Path) -> list[str]:
    """Tell every receiver. A failure does not fail the run: each is returned as a sentence."""
    failed = []
    for notice in notices:
        if event["event"] not in notice.events:
            continue
        try:
            _deliver(notice, event, root)
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            failed.append(f"{notice.shown} was not told of the {event['event']}: {_short(error)}. The run goes on.")
    return failed


def run_hooks(name: str, commands: Sequence[Sequence[str]], event: Event, root: Path) -> str:
    """Run the commands of a hook one after the other, what they print on the terminal; return what went wrong, empty for nothing."""
    for command in commands:
        try:
            ended = output.run(command, cwd=root, env=environment(event, name))
        except OSError as error:
            return f"hook {name}: '{' '.join(command)}': {error.strerror}"
        if not ended.ok:
            said = output.tail(ended.printed, 12)
            return f"hook {name}: {ended.failure}" + (f"\n{said}" if said else "")
    return ""


def commits(repository: Path, old: str | None, new: str | None, inside: str = ".") -> list[str]:
    """The commits from one release to the next, newest first; none where git does not know both."""
    if not old or not new or old == new:
        return []
    command = [
        "git",
        "-C",
        str(repository),
        "log",
        f"-n{MOST_COMMITS}",
        "--format=%h %s",
        f"{old}..{new}",
        "--",
        inside,
    ]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", check=False, timeout=PATIENCE_S
        )
    except (OSError, subprocess.SubprocessError):
        return []
    return done.stdout.splitlines() if done.returncode == 0 else []


def since(run_id: str, now: float | None = None) -> int:
    """Seconds since a run began, which its id says."""
    began = dt.datetime.strptime(run_id.partition("-")[0], "%Y%m%dT%H%M%SZ").replace(tzinfo=dt.UTC).timestamp()
    return max(0, round((time.time() if now is None else now) - began))


def _deliver(notice: Notice, event: Event, root: Path) -> None:
    if notice.webhook:
        _post(notice.webhook, event, notice.headers)
    elif notice.slack:
        _post(notice.slack, {"text": report(event)}, {})
    elif notice.grafana:
        body = {"time": round(time.time() * 1000), "tags": [event["app"], event["event"]], "text": sentence(event)}
        place = f"{notice.grafana.rstrip('/')}/api/annotations"
        _post(place, body, {"Authorization": f"Bearer {notice.token}"})
    elif notice.mail:
        _mail(notice.mail, event)
    elif notice.command:
        done = subprocess.run(
            notice.command,
            cwd=root,
            env=environment(event, "notify"),
            input=json.dumps(event),
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=PATIENCE_S,
        )
        if done.returncode:
            said = (done.stderr or done.stdout).strip().splitlines()
            raise OSError(f"exit status {done.returncode}{': ' + said[-1] if said else ''}")


def _post(url: str, body: Mapping[str, object], headers: Mapping[str, str]) -> None:
    import urllib.request  # noqa: PLC0415  every release loads this module, and few tell a web server

    class NoRedirect(urllib.request.HTTPRedirectHandler):
        """A redirected POST would arrive as a GET without its body, and look as if it had been told."""

        def redirect_request(self, *_: object, **__: object) -> None:
            """Refuse."""

    request = urllib.request.Request(  # noqa: S310  the inventory allows http and https only
        url, json.dumps(body).encode(), {"Content-Type": "application/json", "User-Agent": "praetor", **headers}
    )
    with urllib.request.build_opener(NoRedirect()).open(request, timeout=PATIENCE_S) as answer:
        answer.read(1000)


def _mail(mail: Mail, event: Event) -> None:
    import email.message  # noqa: PLC0415  as above
    import email.utils  # noqa: PLC0415
    import smtplib  # noqa: PLC0415
    import ssl  # noqa: PLC0415

    message = email.message.EmailMessage()
    message["From"], message["To"] = mail.sender, ", ".join(mail.to)
    message["Subject"] = f"[{event['app']}] {event['event']}: {event['release']}"
    message["Date"], message["Message-ID"] = email.utils.formatdate(), email.utils.make_msgid()
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(report(event))
    host, _, port = mail.server.rpartition(":") if mail.server.rpartition(":")[2].isdecimal() else (mail.server, "", "")
    host, number = host.strip("[]"), int(port or _PORTS[mail.tls])
    context = ssl.create_default_context()
    server: smtplib.SMTP
    if mail.tls == "immediate":
        server = smtplib.SMTP_SSL(host, number, timeout=PATIENCE_S, context=context)
    else:
        server = smtplib.SMTP(host, number, timeout=PATIENCE_S)
    with server:
        if mail.tls == "starttls":
            server.starttls(context=context)
        if mail.user and mail.password:
            server.login(mail.user, mail.password)
        server.send_message(message)


def _short(error: Exception) -> str:
    """Say what went wrong without the address, which may be a secret."""
    match error:
        case urllib.error.HTTPError():
            return f"it answered {error.code}"
        case urllib.error.URLError():
            return str(error.reason)
        case subprocess.TimeoutExpired():
            return f"no end within {error.timeout:.0f} s"
        case TimeoutError():
            return f"no answer within {PATIENCE_S:.0f} s"
        case _:
            return str(error) or type(error).__name__
