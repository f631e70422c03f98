"""Ansible module: the cluster of a database host, made as a primary or as the copy of one."""

from __future__ import annotations

import os
import pwd
import subprocess
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.postgres import Cluster, PostgresError, create, empty, forget_targets, query, run

DOCUMENTATION = r"""
module: postgresql_cluster
short_description: Make the cluster of a database host, or look at it
description:
  - Makes the cluster C(main) with checksums and the locale C.UTF-8 where there is none. Never touches one that is there.
  - A standby is copied from its primary; a copy that was interrupted is begun again.
options:
  version:
    description: Version of PostgreSQL.
    type: int
    required: true
  state:
    description: C(present) makes configuration and data, C(copied) fills the data of a host that is to be a standby, C(seen) only looks.
    type: str
    choices: [present, copied, seen]
    default: seen
  standby:
    description: Whether a cluster that is made now waits to be filled by a copy.
    type: bool
    default: false
  source:
    description: Connection string of the primary, for C(copied).
    type: str
  slot:
    description: The replication slot that the standby uses.
    type: str
"""

RETURN = r"""
exists:
  description: Whether there is a whole cluster.
  type: bool
primary:
  description: Whether it takes writes, or would when it is started.
  type: bool
running:
  description: Whether it answers.
  type: bool
other:
  description: Another version of which the host has a cluster that is in use; 0 for none.
  type: int
"""


def look(cluster: Cluster) -> dict[str, bool]:
    """Say what there is."""
    try:
        rows = query("select pg_is_in_recovery()") if cluster.exists() else []
    except PostgresError:
        rows = []
    recovering = rows == [["t"]] if rows else cluster.follows()
    return {"exists": cluster.exists(), "running": bool(rows), "primary": cluster.exists() and not recovering}


def other(cluster: Cluster) -> int:
    """Return another version of which there is a cluster that is in use."""
    found = [
        int(path.parent.name) for path in Path("/etc/postgresql").glob("[0-9]*/main") if path.parent.name.isdecimal()
    ]
    return max((one for one in found if one != cluster.version and not Cluster(one).retired()), default=0)


def make(cluster: Cluster, *, standby: bool) -> bool:
    """Make configuration and data; whether there was none."""
    if (cluster.data / "PG_VERSION").exists():
        return False
    if standby:
        cluster.unfinished.parent.mkdir(parents=True, exist_ok=True)
        cluster.unfinished.touch()
    create(cluster)
    return True


def copy(cluster: Cluster, source: str, slot: str) -> bool:
    """Fill the data directory from the primary; whether that was needed."""
    if not cluster.unfinished.exists():
        return False
    subprocess.run(["systemctl", "stop", cluster.unit], capture_output=True, check=False)
    cluster.data.mkdir(mode=0o700, exist_ok=True)
    empty(cluster.data)
    run(
        *(cluster.program("pg_basebackup"), "--pgdata", str(cluster.data), "--dbname", source, "--slot", slot),
        *("--checkpoint=fast", "--wal-method=stream", "--no-password"),
    )
    forget_targets(cluster.data)
    signal = cluster.data / "standby.signal"
    signal.touch(mode=0o600)
    owner = pwd.getpwnam("postgres")
    os.chown(signal, owner.pw_uid, owner.pw_gid)
    cluster.unfinished.unlink()
    return True


def main() -> None:
    """Run as an Ansible module."""
    module = AnsibleModule(
        argument_spec={
            "version": {"type": "int", "required": True},
            "state": {"type": "str", "choices": ["present", "copied", "seen"], "default": "seen"},
            "standby": {"type": "bool", "default": False},
            "source": {"type": "str"},
            "slot": {"type": "str"},
        },
        supports_check_mode=True,
    )
    params = module.params
    cluster = Cluster(params["version"])
    changed = False
    try:
        if module.check_mode:
            changed = params["state"] == "present" and not (cluster.data / "PG_VERSION").exists()
        elif params["state"] == "present":
            changed = make(cluster, standby=params["standby"])
        elif params["state"] == "copied":
            changed = copy(cluster, params["source"], params["slot"])
        seen = (
            look(cluster) if Path("/usr/bin/psql").exists() else dict.fromkeys(("exists", "running", "primary"), False)
        )
        module.exit_json(changed=changed, other=other(cluster), **seen)
    except (PostgresError, OSError) as error:
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
