"""Tells people and programs what a run does, and runs the operator's commands around it. On the controller; no host is contacted."""

from __future__ import annotations

import datetime as dt
import email.message
import email.utils
import json
import os
import smtplib
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypedDict

from praetor.inventory.notices import EventName, Mail, Notice

PATIENCE_S = 10.0  # for each that is told: a release does not wait longer for a dead server
MOST_COMMITS = 50
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
    """Tell everybody who wants to know. What fails is returned, a sentence each, and fails nothing."""
    failed = []
    for notice in notices:
        if event["event"] not in notice.events:
            continue
        try:
            _deliver(notice, event, root)
        except (OSError, ValueError, smtplib.SMTPException, subprocess.SubprocessError) as error:
            failed.append(f"{notice.shown} was not told of the {event['event']}: {_short(error)}. The run goes on.")
    return failed


def run_hooks(name: str, commands: Sequence[Sequence[str]], event: Event, root: Path) -> str:
    """Run the commands of a hook one after the other, what they print on the terminal; return what went wrong, empty for nothing."""
    for command in commands:
        shown = " ".join(command)
        try:
            done = subprocess.run(
                command,
                cwd=root,
                env=environment(event, name),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                check=False,
            )
        except OSError as error:
            return f"hook {name}: '{shown}': {error.strerror}"
        if done.returncode:
            said = "\n".join(done.stdout.strip().splitlines()[-12:])
            return f"hook {name}: '{shown}' failed with exit status {done.returncode}" + (f"\n{said}" if said else "")
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


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirected POST would arrive as a GET without its body, and look as if it had been told."""

    def redirect_request(self, *_: object, **__: object) -> None:
        """Refuse."""


def _post(url: str, body: Mapping[str, object], headers: Mapping[str, str]) -> None:
    request = urllib.request.Request(  # noqa: S310  the inventory allows http and https only
        url, json.dumps(body).encode(), {"Content-Type": "application/json", "User-Agent": "praetor", **headers}
    )
    with urllib.request.build_opener(_NoRedirect()).open(request, timeout=PATIENCE_S) as answer:
        answer.read(1000)


def _mail(mail: Mail, event: Event) -> None:
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
