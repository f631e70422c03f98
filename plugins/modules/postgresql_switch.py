"""Ansible module: one step of a change of the primary, on one database host. Each step may be done twice without harm."""

from __future__ import annotations

import os
import pwd
import re
import subprocess
import time
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.postgres import Cluster, PostgresError, empty, forget_targets, literal, number, query, run

DOCUMENTATION = r"""
module: postgresql_switch
short_description: Look at, demote, promote, fence or copy a database
options:
  version:
    description: Version of PostgreSQL; the one whose cluster the host has, when it is left out.
    type: int
  action:
    description:
      - C(look) says what the host is and how far it has come. C(demote) stops a primary cleanly and starts it as a standby.
        C(fence) stops a server and keeps it from starting as a primary. C(promote) makes a standby that has everything up to C(lsn) the primary.
        C(follow) waits until a standby streams, C(serve) until a primary takes writes. C(copy) makes a standby of whatever the host has, from C(source).
        C(restore) replaces whatever the host has by the backup of C(to), not started; one that runs as the primary is replaced by nothing.
        C(open) starts what was restored, as the primary.
        C(archive) brings what a primary has written up to now into the archive, and gives up without a word where that does not work.
    type: str
    choices: [look, demote, fence, promote, follow, serve, copy, restore, open, archive]
    required: true
  lsn:
    description: How far a standby must have come before it is promoted.
    type: str
  slots:
    description: Slots that the new primary needs for the other hosts.
    type: list
    elements: str
    default: []
  source:
    description: Where the primary is, for C(copy); how to enter it stands in the host's own configuration.
    type: str
  slot:
    description: The replication slot that the copy uses.
    type: str
  to:
    description: Time to restore to, as pgBackRest takes it; everything there is when it is left out.
    type: str
  timeout_s:
    description: Seconds to wait for what is to happen.
    type: int
    default: 60
"""

RETURN = r"""
state:
  description: C(primary), C(standby), C(stopped) or C(none).
  type: str
lsn:
  description: How far its WAL goes.
  type: str
timeline:
  description: Timeline of its data.
  type: int
streaming:
  description: Whether a standby gets WAL from its primary.
  type: bool
lag_bytes:
  description: By standby, WAL that it has not confirmed yet; of a primary.
  type: dict
restoring:
  description: What a restore that has not come to its end goes to, C(everything) or a time; empty when there is none.
  type: str
restored:
  description: What a restore went to that has come to its end, as in C(restoring), until a standby is made of it.
  type: str
archive_failed:
  description: When a primary tried last to bring WAL into the archive, in seconds since 1970, if that failed; else 0.
  type: int
"""

EVERYTHING = "everything"

LOOK = (
    "select pg_is_in_recovery(), case when pg_is_in_recovery() then greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()) "
    "else pg_current_wal_lsn() end, case when pg_is_in_recovery() then (select timeline_id from pg_control_checkpoint()) "
    "else ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int end, "
    "exists (select from pg_stat_wal_receiver where status = 'streaming')"
)


def control(cluster: Cluster) -> dict[str, str]:
    """Return what the data directory of a stopped server says."""
    text = run(cluster.program("pg_controldata"), "-D", str(cluster.data))
    return {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in text.splitlines())}


ARCHIVE = (
    "select coalesce(extract(epoch from max(last_failed_time)), 0)::bigint from pg_stat_archiver "
    "where last_failed_time > coalesce(last_archived_time, '-infinity')"
)


def noted(path: Path) -> str:
    """Return what an earlier run has noted; an empty string where there is nothing."""
    return path.read_text(encoding="utf-8") if path.exists() else ""


def forget(cluster: Cluster) -> None:
    """Forget what was restored: the data goes its way from now on, or is another's."""
    cluster.restoring.unlink(missing_ok=True)
    cluster.restored.unlink(missing_ok=True)


def look(cluster: Cluster | None) -> dict[str, object]:
    """Say what a host is."""
    nothing = {"lsn": "0/0", "timeline": 0, "streaming": False, "lag_bytes": {}, "archive_failed": 0}
    if cluster is None:
        return {**nothing, "restoring": "", "restored": "", "state": "none"}
    seen = {**nothing, "restoring": noted(cluster.restoring), "restored": noted(cluster.restored)}
    if not cluster.exists():
        return {**seen, "state": "none"}
    try:
        [[recovering, lsn, timeline, streaming]] = query(LOOK)
    except PostgresError:
        known = control(cluster)
        return {
            **seen,
            "state": "stopped",
            "lsn": known.get("Latest checkpoint location", "0/0"),
            "timeline": int(known.get("Latest checkpoint's TimeLineID", "0")),
            "clean": known.get("Database cluster state", "").startswith("shut down"),
        }
    seen |= {"lsn": lsn, "timeline": int(timeline), "streaming": streaming == "t"}
    if recovering == "t":
        return {**seen, "state": "standby"}
    rows = query(
        "select application_name, coalesce(pg_wal_lsn_diff(pg_current_wal_lsn(), replay_lsn), 0)::bigint from pg_stat_replication"
    )
    lags = {row[0]: int(row[1]) for row in rows if row[0] != "pg_basebackup"}
    return {**seen, "state": "primary", "lag_bytes": lags, "archive_failed": int(query(ARCHIVE)[0][0])}


def systemctl(*argv: str) -> None:
    """Start or stop a unit, which is the last word."""
    done, unit = subprocess.run(["systemctl", *argv], capture_output=True, text=True, check=False), argv[-1]
    if done.returncode:
        lines = subprocess.run(
            ["journalctl", "--no-pager", "-q", "-n", "8", "-o", "cat", "-u", unit],
            capture_output=True,
            text=True,
            check=False,
        )
        raise PostgresError(f"systemctl {' '.join(argv)}: {done.stderr.strip()}\n{lines.stdout}")


def sign(cluster: Cluster) -> None:
    """Let a data directory start as a standby only; on the disk when this returns."""
    path = cluster.data / "standby.signal"
    owner = pwd.getpwnam("postgres")
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
        os.fchown(file.fileno(), owner.pw_uid, owner.pw_gid)
        os.fsync(file.fileno())
    directory = os.open(cluster.data, os.O_RDONLY)
    os.fsync(directory)
    os.close(directory)


def wait(
    what: str, timeout_s: int, cluster: Cluster, *, streaming: bool = False, state: str = "", lsn: str = ""
) -> None:
    """Wait until the host is what it shall be."""
    deadline = time.monotonic() + timeout_s
    while True:
        seen = look(cluster)
        right = (not streaming or seen["streaming"]) and (not state or seen["state"] == state)
        if right and (not lsn or number(str(seen["lsn"])) >= number(lsn)):
            return
        if time.monotonic() > deadline:
            raise PostgresError(
                f"waited {timeout_s} s for {what}; the host is {seen['state']} at {seen['lsn']}, streaming: {seen['streaming']}"
            )
        time.sleep(0.2)


def demote(cluster: Cluster) -> None:
    """Stop a primary so that all its WAL has gone to its standbys, then let it be a standby. Its start follows the promotion."""
    sign(cluster)
    # Connections end at once; what was acknowledged is sent to the standbys before the server ends.
    systemctl("stop", cluster.unit)


def fence(cluster: Cluster) -> None:
    """Stop a server at once, whatever it does, and keep it from being a primary.

    Not cleanly: cut off from its standbys and the archive, a clean stop waits for both for a minute, and nobody can write meanwhile.
    """
    sign(cluster)
    systemctl("stop", "--no-block", cluster.unit)
    subprocess.run(
        ["systemctl", "kill", "--kill-whom=main", "--signal=QUIT", cluster.unit], capture_output=True, check=False
    )
    systemctl("stop", cluster.unit)


def promote(cluster: Cluster, lsn: str, slots: list[str], timeout_s: int) -> None:
    """Make a standby the primary."""
    if lsn:
        wait(f"its WAL up to {lsn}", timeout_s, cluster, lsn=lsn)
    if query("select pg_promote(true, 60)") != [["t"]]:
        raise PostgresError("pg_promote: the server did not become a primary within 60 s")
    make_slots(slots)


def drop_slots() -> None:
    """Drop slots of a standby: it sends to nobody, and they would hold back its WAL."""
    query(
        "select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_type = 'physical' and not active"
    )


def copy(cluster: Cluster, source: str, slot: str) -> None:
    """Replace what a host has by a copy of the primary."""
    text = (cluster.settings / "conf.d/praetor.conf").read_text(encoding="utf-8")
    kept = re.search(r"^primary_conninfo = '(.*)'$", text, re.MULTILINE)
    words = [
        word for word in (kept[1] if kept else "").split() if not word.startswith(("host=", "target_session_attrs="))
    ]
    source = " ".join([source, *words])
    subprocess.run(["systemctl", "stop", cluster.unit], capture_output=True, check=False)
    cluster.unfinished.touch()
    empty(cluster.data)
    run(
        *(cluster.program("pg_basebackup"), "--pgdata", str(cluster.data), "--dbname", source, "--slot", slot),
        *("--checkpoint=fast", "--wal-method=stream", "--no-password"),
    )
    forget_targets(cluster.data)
    sign(cluster)
    cluster.unfinished.unlink()
    forget(cluster)


def restore(cluster: Cluster, to: str) -> None:
    """Replace what a host has by a backup; it waits for its start, which no other server of the host may take."""
    target = ["--type=time", f"--target={to}", "--target-action=promote"] if to else ["--type=default"]
    subprocess.run(["systemctl", "stop", cluster.unit], capture_output=True, check=False)
    cluster.data.mkdir(mode=0o700, exist_ok=True)
    owner = pwd.getpwnam("postgres")
    os.chown(cluster.data, owner.pw_uid, owner.pw_gid)
    # From here on until it serves: whoever types the same again goes on.
    forget(cluster)
    cluster.restoring.write_text(to or EVERYTHING, encoding="utf-8")
    cluster.unfinished.touch()
    empty(cluster.data)
    run("pgbackrest", "--stanza=main", *target, "restore")
    cluster.unfinished.unlink()


def open_restored(cluster: Cluster, timeout_s: int) -> None:
    """Start what was restored and wait until it takes writes."""
    try:
        systemctl("start", cluster.unit)
        wait("the end of the restore", timeout_s, cluster, state="primary")
    except PostgresError as error:
        log = sorted(Path("/var/log/postgresql").glob("*-main.log"))
        text = log[-1].read_text(encoding="utf-8", errors="replace")[-6000:] if log else ""
        subprocess.run(["systemctl", "stop", cluster.unit], capture_output=True, check=False)
        if "recovery ended before configured recovery target was reached" in text:
            last = re.findall(r"last completed transaction was at log time (.*)", text)
            reached = last[-1] if last else "no time"
            raise PostgresError(
                f"to_time: the archive does not reach it; the last transaction in it is of {reached}"
            ) from error
        raise PostgresError(f"{error}\n{text[-1500:]}") from error


def forget_restore() -> None:
    """Take out of a restored server up to when it was restored: its standbys get a copy of its settings, and would stop there."""
    sql = "select distinct name from pg_file_settings where sourcefile like '%auto.conf' and name ~ '^(recovery_target|restore_command)'"
    for [setting] in query(sql):
        query(f"alter system reset {setting}")


def make_slots(slots: list[str]) -> bool:
    """Make slots for standbys; whether one was missing."""
    there = {row[0] for row in query("select slot_name from pg_replication_slots")}
    missing = set(slots) - there
    for slot in missing:
        query(f"select pg_create_physical_replication_slot({literal(slot)})")
    return bool(missing)


def archive(timeout_s: int) -> None:
    """Wait until the archive has what was written up to now, or for some time."""
    # A restore to a moment ends at the first transaction after it; where nobody writes there would be none.
    query("select pg_current_xact_id()")
    [[wal]] = query("select pg_walfile_name(pg_switch_wal())")
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        # Nothing was ever archived: a word that comes before all names. An empty one would be no row.
        [[last]] = query("select coalesce(last_archived_wal, '-') from pg_stat_archiver")
        # A file's name begins with its timeline.
        if last[:24] >= wal:
            return
        time.sleep(0.3)


def here() -> Cluster | None:
    """Return the newest cluster that the host has."""
    found = [
        int(path.parent.name) for path in Path("/etc/postgresql").glob("[0-9]*/main") if path.parent.name.isdecimal()
    ]
    # Not one that an upgrade keeps, or has not finished.
    found = [version for version in found if not Cluster(version).retired()]
    return Cluster(max(found)) if found else None


def work(cluster: Cluster, params: dict[str, object]) -> bool:  # noqa: C901, PLR0912  one branch for each action
    """Do what is asked; whether anything changed."""
    seen, action, timeout_s = look(cluster), params["action"], int(str(params["timeout_s"]))
    slots = params["slots"] if isinstance(params["slots"], list) else []
    if action == "demote" and seen["state"] == "primary":
        demote(cluster)
    elif action == "fence" and not (seen["state"] == "stopped" and cluster.follows()):
        fence(cluster)
    elif action == "promote" and seen["state"] == "primary":
        # An earlier run was interrupted, or somebody promoted it by hand.
        forget(cluster)
        return make_slots(slots)
    elif action == "promote":
        promote(cluster, str(params["lsn"] or ""), slots, timeout_s)
    elif action == "follow":
        if seen["state"] == "stopped":
            systemctl("start", cluster.unit)
        wait("WAL from its primary", timeout_s, cluster, streaming=True)
        drop_slots()
        return not seen["streaming"]
    elif action == "serve":
        wait("its start as the primary", timeout_s, cluster, state="primary")
        return False
    elif action == "copy":
        copy(cluster, str(params["source"]), str(params["slot"]))
    elif action == "restore":
        to = str(params["to"] or "")
        if seen["state"] != "primary":
            restore(cluster, to)
        elif (to or EVERYTHING) in {seen["restoring"], seen["restored"]}:
            # An earlier run was interrupted when it had started, or when it had come to its end.
            return False
        else:
            raise PostgresError("this host is the primary: nothing is restored onto it. What it has is not touched")
    elif action == "archive" and seen["state"] == "primary":
        archive(timeout_s)
        return False
    elif action == "open":
        if seen["state"] != "primary":
            open_restored(cluster, timeout_s)
        forget_restore()
        made = make_slots(slots)
        if cluster.restoring.exists():
            cluster.restoring.replace(cluster.restored)
        return made or seen["state"] != "primary"
    else:
        return False
    return True


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={
            "version": {"type": "int"},
            "action": {
                "type": "str",
                "choices": [
                    "look",
                    "demote",
                    "fence",
                    "promote",
                    "follow",
                    "serve",
                    "copy",
                    "restore",
                    "open",
                    "archive",
                ],
                "required": True,
            },
            "lsn": {"type": "str"},
            "slots": {"type": "list", "elements": "str", "default": []},
            "source": {"type": "str"},
            "slot": {"type": "str"},
            "to": {"type": "str"},
            "timeout_s": {"type": "int", "default": 60},
        },
        supports_check_mode=True,
    )
    params = module.params
    cluster = Cluster(params["version"]) if params["version"] else here()
    try:
        if params["action"] == "look" or module.check_mode:
            module.exit_json(changed=False, **look(cluster))
        if cluster is None:
            module.fail_json(msg="this host has no PostgreSQL: ansible-playbook playbooks/provision.yml -i INVENTORY")
        changed = work(cluster, params)
        module.exit_json(changed=changed, **look(cluster))
    except (PostgresError, OSError) as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
