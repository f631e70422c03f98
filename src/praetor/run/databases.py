"""Whether a change of the primary may begin. Pure Python; runs on the controller."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypedDict

ALLOWED_LAG = 64 * 1024 * 1024
"""Bytes of WAL that a standby may be behind when a switchover begins: while it catches up, nobody writes."""


class Seen(TypedDict, total=False):
    """What a database host is, as module postgresql_switch says it; without `state` it could not be reached."""

    state: str
    lsn: str
    timeline: int
    streaming: bool
    lag_bytes: Mapping[str, int]
    archive_failed: int
    clean: bool
    restoring: str
    restored: str


def slot(host: str) -> str:
    """Return the name under which a standby streams."""
    return "".join(letter if letter.isalnum() and letter.isascii() else "_" for letter in host.lower())


def refusal(kind: str, to: str, seen: Mapping[str, Seen], *, force: bool = False) -> str:
    """Say why a change may not begin; an empty string when it may."""
    word = "host" if kind == "rejoin" else "to"
    if to not in seen:
        return f"{word}: found {to or 'nothing'}, expected a database host: -e {word}={' or '.join(seen)}."
    states = {host: one.get("state", "unreachable") for host, one in seen.items()}
    primaries = [host for host, state in states.items() if state == "primary"]
    if len(primaries) > 1:
        newest = max(primaries, key=lambda host: seen[host].get("timeline", 0))
        return (
            f"{' and '.join(primaries)} both take writes, {newest} on the later timeline. Stop the other one first: on it, "
            "systemctl stop 'postgresql@*'."
        )
    if kind == "rejoin":
        return _rejoin(to, states, primaries)
    if states[to] not in {"standby", "primary"}:
        return f"{to} is {states[to]}: only a standby that runs can become the primary. The databases go on as they are: {_list(states)}."
    if states[to] == "primary":
        return ""
    ahead = [
        host
        for host, one in seen.items()
        if states[host] == "standby" and _number(one["lsn"]) > _number(seen[to]["lsn"])
    ]
    if kind == "failover":
        return "" if force else _failover(to, primaries, ahead)
    return _switchover(to, seen, states, primaries, ahead)


def _failover(to: str, primaries: list[str], ahead: list[str]) -> str:
    if primaries:
        return f"{primaries[0]} serves as the primary, so nothing needs to be lost: playbooks/switchover.yml -e to={to}, or -e force=true."
    return f"{', '.join(ahead)} has more than {to}: -e to={ahead[0]}, or -e force=true." if ahead else ""


def _switchover(
    to: str, seen: Mapping[str, Seen], states: Mapping[str, str], primaries: list[str], ahead: list[str]
) -> str:
    if "unreachable" in states.values():
        gone = ", ".join(host for host, state in states.items() if state == "unreachable")
        return f"{gone} cannot be reached. If it was the primary: playbooks/failover.yml -e to={to}."
    if not primaries:
        # An earlier run stopped the primary and came no further.
        return f"{', '.join(ahead)} has more than {to}: -e to={ahead[0]}." if ahead else ""
    lag = seen[primaries[0]].get("lag_bytes", {}).get(slot(to))
    if lag is None or not seen[to].get("streaming"):
        return (
            f"{to} does not follow {primaries[0]}: playbooks/rejoin.yml -e host={to}. {primaries[0]} goes on serving."
        )
    if lag > ALLOWED_LAG:
        return f"{to} is {lag // 1_000_000} MB behind {primaries[0]}: writes would wait until it has caught up. {primaries[0]} goes on serving; try later."
    return ""


def _rejoin(to: str, states: Mapping[str, str], primaries: list[str]) -> str:
    if not primaries:
        return f"no database host takes writes ({_list(states)}), so there is nothing to follow: playbooks/failover.yml -e to=HOST."
    if to == primaries[0]:
        return f"{to} is the primary: a primary is not overwritten. Another first: playbooks/switchover.yml -e to=HOST."
    return f"{to} cannot be reached." if states[to] == "unreachable" else ""


class Maintenance(TypedDict):
    """In which order database hosts are maintained."""

    refused: str
    """Why nothing may begin; empty when it may."""
    resume: str
    """The standby that an interrupted switch was to make the primary; empty where there is a primary."""
    first: list[str]
    """Hosts to which nobody writes; they go first."""
    primary: str
    """The primary, if it is to be maintained too."""
    successor: str
    """The standby that takes its place before that; empty if there is none, and then writes wait."""


def maintenance(chosen: Sequence[str], seen: Mapping[str, Seen], *, outage: bool = False) -> Maintenance:
    """Say in which order database hosts are maintained.

    Args:
        chosen: the hosts that are to be maintained.
        seen: all database hosts.
        outage: whether writes may wait while the only host is away.

    """
    states = {host: one.get("state", "unreachable") for host, one in seen.items()}
    primaries = [host for host, state in states.items() if state == "primary"]
    running = [host for host, state in states.items() if state == "standby"]
    resume = ""
    if not primaries and running:
        resume = max(running, key=lambda host: _number(seen[host]["lsn"]))
    primary = primaries[0] if primaries else resume
    followers = [host for host in states if host != primary]
    first = [host for host in followers if host in chosen]
    maintained = primary if primary in chosen else ""
    successors = [host for host in followers if states[host] == "standby" or host in first]
    successor = next(iter(successors), "") if maintained else ""
    refused = _unfit(primary, seen, states, primaries)
    if not refused and maintained and not successor and not outage:
        refused = (
            f"{primary} has no standby: while it is updated or boots, its apps have no database. -e outage=true does it anyway; "
            f"with a second host in database_hosts it costs seconds. It goes on serving."
        )
    return {"refused": refused, "resume": resume, "first": first, "primary": maintained, "successor": successor}


def _unfit(primary: str, seen: Mapping[str, Seen], states: Mapping[str, str], primaries: list[str]) -> str:
    if "unreachable" in states.values():
        gone = ", ".join(host for host, state in states.items() if state == "unreachable")
        return f"{gone} cannot be reached, and no other database host is touched without it. They go on as they are: {_list(states)}."
    if len(primaries) > 1 or not primary:
        return refusal("switchover", next(iter(seen)), seen) or f"No database host can take writes: {_list(states)}."
    for host, state in states.items():
        stopped = state == "stopped" and not seen[host].get("clean")
        if state == "none" or stopped or (primaries and state == "standby" and not seen[host].get("streaming")):
            return f"{host} does not follow {primary}: playbooks/rejoin.yml -e host={host}. {primary} goes on serving."
    return ""


class Upgradable(TypedDict, total=False):
    """What a database host is before an upgrade, as module postgresql_upgrade says it; without `version` it could not be reached."""

    version: int
    state: str
    begun: bool


def upgrade(to: int, seen: Mapping[str, Upgradable], systems: Mapping[str, str]) -> tuple[str, str]:
    """Return why databases cannot be upgraded, or an empty string, and the host that is upgraded; the others keep what they have.

    Args:
        to: the version that the Debian of these hosts has.
        seen: all database hosts.
        systems: the Debian release of each database and backup host.

    """
    if gone := [host for host in systems if host in seen and "version" not in seen[host]]:
        return f"{', '.join(gone)} cannot be reached.", ""
    if len(set(systems.values())) > 1:
        found = ", ".join(f"{host} {debian}" for host, debian in systems.items())
        return f"all database and backup hosts must have the same Debian first, found {found}.", ""
    if newer := [host for host, one in seen.items() if one["version"] > to]:
        return f"{newer[0]} has PostgreSQL {seen[newer[0]]['version']} already, expected at most {to}.", ""
    doing = [host for host, one in seen.items() if one["begun"] and one["state"] != "standby"]
    primaries = [host for host, one in seen.items() if one["state"] == "primary"] or doing
    if not primaries and (done := [host for host, one in seen.items() if one["version"] == to]):
        # An earlier run was interrupted before it was started.
        primaries = done[:1]
    if len(primaries) != 1:
        states = {host: one["state"] for host, one in seen.items()}
        return f"{' and '.join(primaries) or 'no host'} takes writes, expected one primary: {_list(states)}.", ""
    return "", primaries[0]


def _list(states: Mapping[str, str]) -> str:
    return ", ".join(f"{host} {state}" for host, state in states.items())


def _number(lsn: str) -> int:
    high, low = lsn.split("/")
    return (int(high, 16) << 32) + int(low, 16)


class Restored(TypedDict):
    """What a restore found, as database-restore writes it."""

    restored_to: str
    backup: str
    tables: Mapping[str, int]
    rows: int
    socket: str
    seconds: float


def restored(host: str, found: Restored) -> str:
    """Say what a restore found, for people."""
    wide = max((len(table) for table in found["tables"]), default=5)
    rows = "\n".join(f"{table:<{wide}}  {count}" for table, count in sorted(found["tables"].items()))
    left = (
        f"It runs on {host}: sudo runuser -u postgres -- psql -h {found['socket']} DATABASE; pg_dump in the same way. "
        f"To remove it: playbooks/restore.yml -e host={host} -e remove=true"
        if found["socket"]
        else "The copy is gone again."
    )
    return (
        f"{'TABLE':<{wide}}  ROWS\n{rows}\n\nRestored to {found['restored_to']} (the last transaction), from backup {found['backup']}, "
        f"in {found['seconds']} s; every table and index was read.\n{left}"
    )


class Kept(TypedDict, total=False):
    """What a repository has. Times in seconds since 1970, 0 for never."""

    backups: int
    newest: int
    full: int
    drill: int
    drill_failed: bool


class Backups(Kept, total=False):
    """What a backup host reports about its backups, and about those on S3-compatible storage; empty when it did not answer."""

    s3: Kept


def rows(seen: Mapping[str, Seen]) -> list[dict[str, str | int]]:
    """A row per database host: what it is, on which timeline, and how far its standbys are behind it."""
    lags = {name: lag for one in seen.values() for name, lag in one.get("lag_bytes", {}).items()}
    found: list[dict[str, str | int]] = []
    for host, one in seen.items():
        state = one.get("state", "no answer")
        behind = "-"
        if state == "standby":
            lag = lags.get(slot(host))
            behind = (
                "does not follow" if not one.get("streaming") else "?" if lag is None else f"{lag / 1_000_000:.1f} MB"
            )
        found.append({"host": host, "database": state, "timeline": one.get("timeline", 0) or "-", "behind": behind})
    return found


def notes(seen: Mapping[str, Seen], kept: Mapping[str, Backups], now: float) -> list[str]:
    """Say what is not as it should be, and how old backups are."""
    lines = []
    primaries = [host for host, one in seen.items() if one.get("state") == "primary"]
    if seen and len(primaries) != 1:
        lines.append(
            f"{' and '.join(primaries) or 'No host'} take{'' if primaries else 's'} writes, expected one: "
            "docs/runbooks/" + ("TwoPrimaries.md" if primaries else "DatabaseWithoutPrimary.md")
        )
    for host, database in seen.items():
        if database.get("archive_failed"):
            lines.append(
                f"{host} cannot bring its WAL to the backup host, and tried last {age(now - database['archive_failed'])} ago; it takes "
                "writes all the same and keeps what waits, until its disk is full: docs/runbooks/WalArchiveFailing.md."
            )
        if database.get("restoring"):
            lines.append(
                f"{host} is being restored to {database['restoring']}, or that was interrupted: type the same restore.yml again."
            )
    for host, one in kept.items():
        lines.append(_backups(host, one, now))
        if "s3" in one:
            lines.append(_backups(f"S3-compatible storage of {host}", one["s3"], now))
    if seen and not kept:
        lines.append("The databases have no backup: put a host into the group backup_hosts (docs/databases.md).")
    return lines


class About(TypedDict, total=False):
    """What a backup host knows about the copy of a controller; empty when it has none."""

    authority: str
    vault: bool
    made: int


def controller_note(host: str, about: About, authority: str) -> list[str]:
    """Say whether the controller's copy is missing or is that of another authority.

    Args:
        host: the backup host.
        about: what it has.
        authority: what identifies this controller's authority in a copy; empty where it has none.

    """
    if not authority or about.get("authority") == authority:
        return []
    has = "the copy of another authority" if about else "no copy of this controller's authority"
    return [
        f"{host} has {has}, so the authority would be lost with this machine. Make a copy: playbooks/controller_copy.yml."
    ]


def _backups(place: str, one: Kept, now: float) -> str:
    if "backups" not in one:
        return f"{place} does not say what backups there are; to see why, on the backup host: runuser -u postgres -- pgbackrest info."
    if not one["backups"]:
        return f"{place} has no backup: systemctl start pgbackrest@full {'there' if ' ' not in place else 'on the backup host'}."
    drill = f"restored on trial {age(now - one['drill'])} ago" if one.get("drill") else "never restored on trial"
    failed = ", and the last try failed: playbooks/drill.yml says why" if one.get("drill_failed") else ""
    return (
        f"{place} has {_many(one['backups'])}, the newest {age(now - one['newest'])} old, the newest full one "
        f"{age(now - one['full'])}; {drill}{failed}."
    )


def _many(backups: int) -> str:
    return "1 backup" if backups == 1 else f"{backups} backups"


def age(seconds: float) -> str:
    """Say how long, in the largest unit that fits twice."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{int(seconds // size)} {unit}"
    return f"{max(int(seconds), 0)} s"
