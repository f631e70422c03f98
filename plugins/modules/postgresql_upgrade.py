"""Ansible module: one step on the way of a database host to the PostgreSQL of its next Debian. Each step may be done twice without harm."""

from __future__ import annotations

import os
import pwd
import re
import shutil
import subprocess
import time
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.postgres import Cluster, PostgresError, create, number, query, run

DOCUMENTATION = r"""
module: postgresql_upgrade
short_description: Bring a cluster to a later version of PostgreSQL
options:
  to:
    description: The version that the host is to have.
    type: int
    required: true
  state:
    description:
      - C(seen) only looks. C(checked) makes an empty cluster of the new version and lets pg_upgrade say whether the old one, which goes on
        serving, can be brought there. C(upgraded) stops the old one, brings it there and starts the new one; when that fails the old one serves again.
        C(retired) stops a standby of the old version, which keeps what it has. C(removed) takes the old version away for good.
    type: str
    choices: [seen, checked, upgraded, retired, removed]
    default: seen
  link:
    description: Whether the new version takes the files of the old one; else it gets copies, and the old one stays usable.
    type: bool
    default: true
  lsn:
    description: How far a standby must have come before it is retired.
    type: str
    default: ''
"""

RETURN = r"""
version:
  description: The version whose cluster the host has.
  type: int
state:
  description: C(primary), C(standby), C(stopped) or C(none), of that cluster.
  type: str
begun:
  description: Whether an upgrade of it was begun and has not ended.
  type: bool
kept:
  description: Earlier version that the host keeps; 0 for none.
  type: int
lsn:
  description: How far the old primary had come when it was stopped.
  type: str
seconds:
  description: How long nobody could write.
  type: float
"""

SETTINGS = Path("/etc/postgresql")
UNITS = Path("/etc/systemd/system")
GUARD = Path("/etc/praetor/postgresql/guard.conf")
GUARD_UNIT = "praetor-database-guard.service"
COPIED = ("pg_hba.conf", "pg_ident.conf")


def versions() -> list[int]:
    """Return the versions of which the host has a cluster."""
    return sorted(int(path.parent.name) for path in SETTINGS.glob("[0-9]*/main") if path.parent.name.isdecimal())


def recovering() -> str:
    """Return t, f, or nothing where no server answers."""
    try:
        return str(query("select pg_is_in_recovery()")[0][0])
    except PostgresError:
        return ""


def look(to: int) -> dict[str, object]:
    """Say what a host has."""
    found = [version for version in versions() if not Cluster(version).retired()]
    # One that was just being made when an earlier run ended may not be marked yet.
    found = [version for version in found if version < to or not Cluster(version).unfinished.exists()] or found
    version = max(found, default=0)
    answer = recovering() if version else ""
    state = {"t": "standby", "f": "primary"}.get(answer, "stopped") if version else "none"
    kept = max((one for one in versions() if one < version and Cluster(one).retired()), default=0)
    begun = version < to and Cluster(to).unfinished.exists() and (Cluster(version).data / "PG_VERSION").exists()
    return {"version": version, "state": state, "begun": begun, "kept": kept}


def systemctl(*argv: str) -> None:
    """Start or stop a unit."""
    done = subprocess.run(["systemctl", *argv], capture_output=True, text=True, check=False)
    if done.returncode:
        raise PostgresError(f"systemctl {' '.join(argv)}: {done.stderr.strip()}")


def conftool(version: int, name: str, value: str) -> None:
    """Change one setting of a cluster."""
    subprocess.run(["pg_conftool", str(version), "main", "set", name, value], check=True, capture_output=True)


def start_conf(cluster: Cluster, word: str) -> None:
    """Say whether Debian starts a cluster: auto, or disabled."""
    (cluster.settings / "start.conf").write_text(f"{word}\n", encoding="utf-8")


def pg_upgrade(old: Cluster, new: Cluster, *flags: str) -> None:
    """Run pg_upgrade, whose report is the error."""
    place = new.data.parent / "upgrade"
    place.mkdir(exist_ok=True)
    owner = pwd.getpwnam("postgres")
    os.chown(place, owner.pw_uid, owner.pw_gid)
    quiet = "-c archive_mode=off -c synchronous_standby_names="
    argv = [
        *(
            new.program("pg_upgrade"),
            "-b",
            str(Path(old.program("x")).parent),
            "-B",
            str(Path(new.program("x")).parent),
        ),
        *(
            "-d",
            str(old.data),
            "-o",
            f"-D {old.settings} {quiet}",
            "-D",
            str(new.data),
            "-O",
            f"-D {new.settings} {quiet}",
        ),
        *("-p", "5432", "-P", "5433", "-j", str(os.cpu_count() or 1), *flags),
    ]
    done = subprocess.run(
        ["runuser", "-u", "postgres", "--", *argv],
        capture_output=True,
        text=True,
        check=False,
        cwd=place,
        stdin=subprocess.DEVNULL,
        env={"LC_ALL": "C.UTF-8", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
    )
    if done.returncode:
        said = re.sub(r"(?m)^.*\bok$\n?", "", done.stdout + done.stderr)
        reports = sorted((new.data / "pg_upgrade_output.d").rglob("*.txt"))
        texts = [f"{path.name}:\n{path.read_text(encoding='utf-8', errors='replace')[:1500]}" for path in reports]
        raise PostgresError("\n".join([f"pg_upgrade ended with {done.returncode}: {said.strip()[-2500:]}", *texts]))


def give_back(old: Cluster) -> None:
    """Let the old cluster start again: pg_upgrade has put its control file away when it began to take its files."""
    away = old.data / "global/pg_control.old"
    if away.exists() and not (old.data / "global/pg_control").exists():
        away.rename(old.data / "global/pg_control")


def begin(old: Cluster, new: Cluster) -> None:
    """Make an empty cluster of the new version, with the settings of the old one; what an earlier try has left goes away."""
    new.unfinished.parent.mkdir(parents=True, exist_ok=True)
    new.unfinished.touch()
    give_back(old)
    if new.settings.exists():
        subprocess.run(["pg_dropcluster", str(new.version), "main"], check=True, capture_output=True)
    # Not one that Debian starts, nor one that others take for the host's.
    create(new, start="disabled")
    for path in [*(old.settings / name for name in COPIED), *sorted((old.settings / "conf.d").glob("*.conf"))]:
        target = new.settings / path.relative_to(old.settings)
        shutil.copy2(path, target)
        shutil.chown(target, "postgres", "postgres")
    # A setting that the new version does not know would keep it from starting.
    run(new.program("postgres"), "-D", str(new.settings), "-C", "shared_buffers")


def finish(old: Cluster, new: Cluster) -> None:
    """Let the new cluster be the host's, under the same address and guard."""
    dropin = UNITS / f"{old.unit}.d"
    if dropin.is_dir():
        shutil.copytree(dropin, UNITS / f"{new.unit}.d", dirs_exist_ok=True)
    if GUARD.exists():
        text = GUARD.read_text(encoding="utf-8")
        GUARD.write_text(re.sub(r"(?m)^version = \d+$", f"version = {new.version}", text), encoding="utf-8")
    retire(old)
    conftool(new.version, "port", "5432")
    start_conf(new, "auto")
    new.unfinished.unlink()
    subprocess.run(["systemctl", "daemon-reload"], check=True, capture_output=True)


def retire(cluster: Cluster) -> None:
    """Keep a cluster of the old version from being started."""
    start_conf(cluster, "disabled")
    conftool(cluster.version, "port", "5433")
    subprocess.run(["systemctl", "daemon-reload"], check=True, capture_output=True)


def serve(new: Cluster) -> None:
    """Start the new cluster and wait until it takes writes."""
    systemctl("start", new.unit)
    subprocess.run(["systemctl", "try-restart", GUARD_UNIT], check=False, capture_output=True)
    deadline = time.monotonic() + 60
    while recovering() != "f":
        if time.monotonic() > deadline:
            raise PostgresError(f"{new.unit} runs and takes no writes: journalctl -u {new.unit}")
        time.sleep(0.2)


def end_of(cluster: Cluster) -> str:
    """Return how far a stopped cluster has come."""
    text = run(cluster.program("pg_controldata"), "-D", str(cluster.data))
    return str(re.findall(r"^Latest checkpoint location:\s+(\S+)$", text, re.MULTILINE)[0])


def upgrade(old: Cluster, new: Cluster, *, link: bool) -> dict[str, object]:
    """Bring what the old cluster has to the new one."""
    begin(old, new)
    began = time.monotonic()
    systemctl("stop", old.unit)
    lsn = end_of(old)
    try:
        pg_upgrade(old, new, *(["--link"] if link else ["--copy"]))
    except PostgresError as error:
        give_back(old)
        systemctl("start", old.unit)
        raise PostgresError(f"nothing was upgraded, and PostgreSQL {old.version} serves again. {error}") from error
    finish(old, new)
    serve(new)
    return {"lsn": lsn, "seconds": round(time.monotonic() - began, 1)}


def retire_standby(old: Cluster, lsn: str) -> None:
    """Stop a standby of the old version when it has all that there was."""
    deadline = time.monotonic() + 60
    while lsn and recovering() == "t":
        [[have]] = query("select coalesce(greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()), '0/0')")
        if number(have) >= number(lsn):
            break
        if time.monotonic() > deadline:
            raise PostgresError(
                f"it has its WAL up to {have} only, and the old primary ended at {lsn}; it is not stopped"
            )
        time.sleep(0.3)
    systemctl("stop", old.unit)
    retire(old)


def remove(version: int) -> None:
    """Take a retired cluster and its packages away."""
    subprocess.run(["pg_dropcluster", str(version), "main"], check=True, capture_output=True)
    # It leaves the directory where it had a conf.d, and with it the version.
    shutil.rmtree(SETTINGS / str(version), ignore_errors=True)
    shutil.rmtree(UNITS / f"{Cluster(version).unit}.d", ignore_errors=True)
    shutil.rmtree(f"/var/lib/postgresql/{version}", ignore_errors=True)


def work(to: int, state: str, params: dict[str, object]) -> dict[str, object]:
    """Do what is asked; what to add to the result."""
    seen = look(to)
    version = int(str(seen["version"]))
    old, new = Cluster(version), Cluster(to)
    if state == "removed":
        if not seen["kept"]:
            return {"changed": False}
        remove(int(str(seen["kept"])))
        return {"changed": True}
    if version == to:
        if state == "upgraded" and seen["state"] == "stopped":
            serve(new)
        return {"changed": False}
    if not version or state == "seen":
        return {"changed": False}
    if state == "checked":
        begin(old, new)
        try:
            pg_upgrade(old, new, "--check", *(["--link"] if params["link"] else ["--copy"]))
        except PostgresError as error:
            raise PostgresError(
                f"PostgreSQL {version} goes on serving, and this keeps it from being upgraded. {error}"
            ) from error
        return {"changed": False}
    if state == "retired":
        retire_standby(old, str(params["lsn"]))
        return {"changed": True}
    return {"changed": True, **upgrade(old, new, link=bool(params["link"]))}


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={
            "to": {"type": "int", "required": True},
            "state": {
                "type": "str",
                "choices": ["seen", "checked", "upgraded", "retired", "removed"],
                "default": "seen",
            },
            "link": {"type": "bool", "default": True},
            "lsn": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    params = module.params
    try:
        state = "seen" if module.check_mode else params["state"]
        done = work(params["to"], state, params)
        module.exit_json(**{**look(params["to"]), **done})
    except subprocess.CalledProcessError as error:
        module.fail_json(msg=f"{error}: {error.stderr.decode(errors='replace')}")
    except (PostgresError, OSError) as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
