"""Log lines about requests from all hosts, as one list in time order."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from praetor.documents import LogLine


def merge(by_host: dict[str, list[LogLine]]) -> list[LogLine]:
    """The lines of all hosts, oldest first, each with its host; those of an archive name theirs."""
    found: list[LogLine] = [{"host": host, **entry} for host, entries in by_host.items() for entry in entries]
    return sorted(found, key=lambda entry: float(entry["ts"]))


def silent(seen: Mapping[str, Mapping[str, Any]], monitor: str, gone: str = "") -> list[str]:
    """A sentence for each host that does not answer, saying where its lines come from.

    Args:
        seen: what the hosts answered.
        monitor: the host whose archive was asked; empty where there is none.
        gone: why that one did not answer either; empty if it did.
    """
    have = f"its lines are those that {monitor} had got from it" if monitor else "no monitoring host keeps its journal"
    have = (
        f"{monitor}, which keeps its lines, does not answer either ({gone}), so they are missing here" if gone else have
    )
    return [f"{host} does not answer ({answer['away']}): {have}" for host, answer in seen.items() if answer.get("away")]


def unknown(
    host: str,
    known: Collection[str],
    archive: Sequence[LogLine],
    monitor: str,
    everywhere: Collection[str] = (),
    gone: str = "",
) -> str:
    """What to say when lines of a host were asked for that neither this run nor the archive has; empty when one of them does.

    Args:
        host: the one that was asked for; empty for all.
        known: the hosts that were asked.
        archive: what the monitoring host had of it.
        monitor: that host; empty where there is none.
        everywhere: the app hosts and balancers of the inventory, whatever the run is limited to.
        gone: why the monitoring host did not answer; empty if it did.
    """
    if not host or host in known or archive:
        return ""
    if host in everywhere:
        return f"-e host={host}: --limit leaves {host} out of this run, and -e host=... already asks one host alone; run it without --limit"
    meant = difflib.get_close_matches(host, known, n=1)
    likely = f"did you mean {meant[0]}?" if meant else f"expected one of: {', '.join(known)}"
    kept = (
        f"{monitor}, which may have lines of one, does not answer ({gone})"
        if gone
        else f"{monitor} has no line of one in that time"
        if monitor
        else "no monitoring host keeps what hosts wrote that have left"
    )
    return f"-e host={host}: the inventory has no such app host or balancer, and {kept}; {likely}"


def render(entry: LogLine) -> str:
    """One line for a reader."""
    at = datetime.fromtimestamp(entry["ts"], UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]
    return f"{at}  {entry['host']}  {entry['source']:<7}  {_say(entry['source'], entry['said'])}"


def _say(source: str, said: Any) -> str:
    if not isinstance(said, dict):
        return _plain(str(said))
    if source == "nginx":
        times = f"{said.get('request_time_s')} s, app {said.get('upstream_time_s')} s"
        return _plain(
            f"{said.get('status')} {said.get('method')} {said.get('uri')}  {times}, {said.get('bytes')} bytes "
            f"to {said.get('client')}  {said.get('request_id')}"
        )
    if source == "haproxy":
        # HAProxy writes +2 where the second retry went to another host.
        retries = str(said.get("retries", "0")).strip("+")
        again = f" after {retries} in vain" if retries != "0" else ""
        times = f"{said.get('request_time_s')} s, waited {said.get('queue_time_s')} s"
        return _plain(
            f"{said.get('status')} {said.get('method')} {said.get('uri')}  by {said.get('server')}{again}, {times}, {said.get('bytes')} bytes "
            f"to {said.get('client')}  {said.get('request_id')}"
        )
    rest = {key: value for key, value in said.items() if key not in {"ts", "level", "message", "exception"}}
    text = f"{said.get('level', '')} {said.get('message', '')}  {' '.join(f'{k}={v}' for k, v in rest.items())}"
    trace = [f"    {_plain(line)}" for line in str(said.get("exception", "")).splitlines()]
    return "\n".join([_plain(text), *trace])


def _plain(text: str) -> str:
    """Nothing that a client wrote may move a reader's cursor."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)
