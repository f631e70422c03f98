"""The log lines of NGINX and an app about requests: access log and journal, as one list in time order."""

from __future__ import annotations

import contextlib
import gzip
import json
import pathlib
import re
import subprocess
import time
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

from .layout import ReleaseError, user_of

if TYPE_CHECKING:
    from praetor.documents import LogLine

ARCHIVE = "/var/log/journal/remote"  # of role journal_remote
LIMIT = 2000  # lines of a host, the last ones
_SPAN = re.compile(r"(\d+)([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def work(
    *,
    app: str,
    since: str,
    request_id: str,
    logs: str,
    by: str = "nginx",
    hosts: list[str] | None = None,
) -> dict[str, list[LogLine]]:
    """The lines about an app that are not older than `since`, or those about a request.

    The logs of `by`, nginx or haproxy, lie in `logs`. With `hosts`, this is the monitoring host, and the lines are those that these hosts have sent
    to its archive.
    """
    begin = parse_since(since, time.time())
    if hosts is not None:
        return {"entries": read_archive(app, hosts, begin, request_id)}
    if by == "haproxy":
        found = access_entries(sorted(pathlib.Path(logs).glob("access.log*")), begin, request_id, "haproxy")
        of_app = [line for line in found if isinstance(line["said"], dict) and line["said"].get("app") == app]
        return {"entries": sorted(of_app, key=lambda line: line["ts"])[-LIMIT:]}
    return {"entries": read(pathlib.Path(logs), app, user_of(app).pw_uid, begin, request_id)}


def parse_since(text: str, now: float) -> float:
    """A time as an operator writes it: `90s`, `15m`, `2h`, `3d` ago, or a date and time in UTC.

    Raises:
        ReleaseError: it is neither.
    """
    if span := _SPAN.fullmatch(text.strip()):
        return now - int(span[1]) * _SECONDS[span[2]]
    try:
        at = datetime.fromisoformat(text.strip())
    except ValueError:
        raise ReleaseError(
            f"-e since={text}: expected a time ago, like 15m or 2h, or a time in UTC, like 2026-11-22T19:00:00"
        ) from None
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


def access_entries(
    paths: Iterable[pathlib.Path], since: float, request_id: str, by: Literal["nginx", "haproxy"] = "nginx"
) -> Iterator[LogLine]:
    """Lines of NGINX's or HAProxy's access logs, rotated and compressed ones too; a line that is not JSON is left out."""
    for path in paths:
        # Nothing is written to a file after its last change.
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_mtime < since:
                continue
            with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as lines:
                for line in lines:
                    if request_id.encode() not in line:
                        continue
                    with contextlib.suppress(ValueError, KeyError, TypeError):
                        said = json.loads(line.decode(errors="replace"))  # as clients send it
                        if said["ts"] >= since and request_id in {"", said["request_id"]}:
                            yield {"ts": float(said["ts"]), "source": by, "said": said}


def journal_entries(lines: Iterable[str], since: float, request_id: str) -> Iterator[LogLine]:
    """Lines of `journalctl --output=json`: an app's own JSON as an object, anything else as text."""
    for line in lines:
        with contextlib.suppress(ValueError, KeyError, TypeError):
            record = json.loads(line)
            said: Any = record["MESSAGE"]
            at = int(record["__REALTIME_TIMESTAMP"]) / 1e6
            if isinstance(said, list):  # journald's way to say bytes
                said = bytes(said).decode(errors="replace")
            with contextlib.suppress(ValueError):
                parsed = json.loads(said)
                said = parsed if isinstance(parsed, dict) else said
            if request_id and (not isinstance(said, dict) or said.get("request_id") != request_id):
                continue
            if isinstance(said, dict) and isinstance(said.get("ts"), str):
                with contextlib.suppress(ValueError):  # when it happened, not when the journal got it
                    at = datetime.fromisoformat(said["ts"]).timestamp()
            if at >= since:
                yield {"ts": at, "source": "app", "said": said}


def archive_entries(lines: Iterable[str], hosts: Iterable[str], since: float, request_id: str) -> Iterator[LogLine]:
    """Lines of the archive that hosts sent, by their names in the inventory; a host may call itself by the first label of that."""
    names = {named: host for host in hosts for named in (host.partition(".")[0], host)}
    requests: set[tuple[str, str]] = set()  # a line that was on its way when the connection broke was sent twice
    for line in lines:
        with contextlib.suppress(ValueError, KeyError, TypeError):
            record = json.loads(line)
            said_by = str(record["_HOSTNAME"])
            host = names.get(said_by) or names[said_by.partition(".")[0]]
            for entry in journal_entries([line], 0, request_id):
                if record.get("_SYSTEMD_UNIT") == "nginx.service" and isinstance(entry["said"], dict):
                    entry = {"ts": float(entry["said"]["ts"]), "source": "nginx", "said": entry["said"]}  # noqa: PLW2901
                    if (host, str(record["MESSAGE"])) in requests:
                        continue
                    requests.add((host, str(record["MESSAGE"])))
                if entry["ts"] >= since:
                    yield {**entry, "host": host}


def read_archive(app: str, hosts: list[str], since: float, request_id: str) -> list[LogLine]:
    """The last lines of hosts about an app: of all that runs in its slice, and NGINX's access log, which it names after the app."""
    fields = "MESSAGE,_HOSTNAME,_SYSTEMD_UNIT"
    command = [
        "journalctl",
        "--quiet",
        "--no-pager",
        "--output=json",
        "--all",  # a long line too
        f"--output-fields={fields}",
        f"--directory={ARCHIVE}",
    ]
    # What came late was written early: the archive is asked from a little before.
    command += [f"--since=@{since - 60:.3f}", f"_SYSTEMD_SLICE=apps-{app}.slice"]
    command += ["+", "_SYSTEMD_UNIT=nginx.service", f"SYSLOG_IDENTIFIER={app}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, errors="replace") as journal:
        found = list(archive_entries(journal.stdout or [], hosts, since, request_id))
    return sorted(found, key=lambda entry: entry["ts"])[-LIMIT:]


def read(logs: pathlib.Path, app: str, uid: int, since: float, request_id: str) -> list[LogLine]:
    """The last lines of a host about an app, oldest first."""
    command = [
        "journalctl",
        "--quiet",
        "--no-pager",
        "--output=json",
        "--all",
        "--output-fields=MESSAGE",
        f"_UID={uid}",
    ]
    command += [f"--since=@{since:.3f}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, errors="replace") as journal:
        found = list(journal_entries(journal.stdout or [], since, request_id))
    found += access_entries(logs.glob(f"{app}.access.log*"), since, request_id)
    return sorted(found, key=lambda entry: float(entry["ts"]))[-LIMIT:]
