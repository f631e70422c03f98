"""How long nobody can write when the host of the primary loses power: failover.yml, typed at once, and Patroni with its default times.

`python bench/failover.py INVENTORY` does it to a lab with an app host and two database hosts, provisioned; INVENTORY's first app asks for a database.
`python bench/failover.py` makes three machines with Patroni and etcd of Debian 12, as their packages come, and takes them away at the end.
One client writes a row every 20 ms, with what this project puts into an app's DATABASE_URL; the time is from the last write that was acknowledged to
the next one.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from serving import ROOT, play

LAB = f"{os.environ.get('PRAETOR_LAB', 'praetor')}-p"
NETWORK = f"198.19.{150 + int(os.environ.get('PRAETOR_LAB_NET', '0'))}"
MEMBERS = {f"p{number}": f"{NETWORK}.{10 + number}" for number in (1, 2, 3)}
URL = (
    "target_session_attrs=read-write connect_timeout=3 tcp_user_timeout=8000 keepalives_idle=5 keepalives_interval=2 "
    "keepalives_count=3"
)
WRITER = """\
import time, psycopg2
address = open("/opt/address").readline().strip()
connection, number = None, int(time.time()) * 1000
while True:
    number += 1
    try:
        if connection is None:
            connection = psycopg2.connect(address)
            connection.autocommit = True
            connection.cursor().execute("create table if not exists numbers (n bigint)")
        connection.cursor().execute("insert into numbers values (%s)", [number])
        print(number, time.time(), flush=True)
    except psycopg2.Error:
        connection = None
    time.sleep(0.02)
"""
READER = """\
import psycopg2
cursor = psycopg2.connect(open("/opt/address").readline().strip()).cursor()
cursor.execute("select n from numbers")
print(*(number for (number,) in cursor))
"""
INVENTORY = """\
all:
  hosts: {hosts}
  vars:
    lab_host_lab: {lab}
    lab_host_network: "{network}"
    lab_host_suite: bookworm
    ansible_user: ops
    ansible_ssh_private_key_file: /var/lib/praetor-lab/{lab}/ssh/id_ed25519
    ansible_ssh_common_args: >-
      -o UserKnownHostsFile=/var/lib/praetor-lab/{lab}/ssh/%h.known_hosts -o IdentitiesOnly=yes
"""
ETCD = """\
ETCD_NAME={name}
ETCD_DATA_DIR=/var/lib/etcd/default
ETCD_LISTEN_PEER_URLS=http://{address}:2380
ETCD_LISTEN_CLIENT_URLS=http://{address}:2379
ETCD_ADVERTISE_CLIENT_URLS=http://{address}:2379
ETCD_INITIAL_ADVERTISE_PEER_URLS=http://{address}:2380
ETCD_INITIAL_CLUSTER={members}
ETCD_INITIAL_CLUSTER_STATE=new
"""
# No times: Patroni's own are ttl 30, loop_wait 10, retry_timeout 10.
PATRONI = """\
scope: main
name: {name}
restapi: {{listen: "{address}:8008", connect_address: "{address}:8008"}}
etcd3: {{hosts: "{etcd}"}}
bootstrap:
  dcs: {{postgresql: {{use_pg_rewind: true, use_slots: true}}}}
  initdb: [{{encoding: UTF8}}, {{locale: C.UTF-8}}, data-checksums]
  pg_hba: ["local all all peer", "host replication standby {network}.0/24 scram-sha-256", "host all all {network}.0/24 scram-sha-256"]
postgresql:
  listen: "{address}:5432"
  connect_address: "{address}:5432"
  data_dir: /var/lib/postgresql/15/patroni
  bin_dir: /usr/lib/postgresql/15/bin
  authentication: {{superuser: {{username: postgres, password: bench}}, replication: {{username: standby, password: bench}}}}
  parameters: {{unix_socket_directories: /var/run/postgresql}}
"""


def run(inventory: Path, host: str, command: str, *, check: bool = True) -> str:
    """Run a shell command as root on a host; what it printed."""
    with tempfile.TemporaryDirectory() as answers:
        words = [str(Path(sys.executable).with_name("ansible")), host, "-i", str(inventory), "-b", "--tree", answers]
        environment = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")}
        done = subprocess.run(
            [*words, "-m", "ansible.builtin.shell", "-a", json.dumps({"cmd": command})],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        found = [json.loads(path.read_text()) for path in Path(answers).iterdir()]
    if check and (done.returncode or not found):
        raise SystemExit(f"{host}: {command}: {done.stdout}{done.stderr}")
    return "\n".join(str(one.get("stdout", "")) for one in found)


def await_true(what: Callable[[], bool], said: str, timeout_s: float = 300) -> None:
    """Return when something holds."""
    deadline = time.monotonic() + timeout_s
    while not what():
        if time.monotonic() > deadline:
            raise SystemExit(f"not in {timeout_s:.0f} s: {said}")
        time.sleep(1)


def outage(inventory: Path, client: str, primary: str, act: Callable[[], None]) -> str:
    """Take the power of the primary's host away while a client writes; how long nobody could, and what was lost."""
    run(
        inventory,
        client,
        f"cat >/opt/writer.py <<'END'\n{WRITER}END\ncat >/opt/reader.py <<'END'\n{READER}END\nsystemctl stop writer 2>/dev/null; rm -f /opt/written; "
        f"systemd-run --quiet --unit=writer --property=StandardOutput=file:/opt/written python3 /opt/writer.py",
    )
    time.sleep(10)
    run(
        inventory, primary, "systemd-run --quiet --on-active=1 --timer-property=AccuracySec=50ms systemctl poweroff -ff"
    )
    time.sleep(1.5)
    act()
    time.sleep(3)
    before = int(run(inventory, client, "wc -l </opt/written"))
    await_true(lambda: int(run(inventory, client, "wc -l </opt/written")) > before + 100, "writes")
    time.sleep(3)
    run(inventory, client, "systemctl stop writer")
    told = [line.split() for line in run(inventory, client, "cat /opt/written").splitlines()]
    times = [float(when) for _, when in told]
    gap, number = max((later - earlier, index) for index, (earlier, later) in enumerate(itertools.pairwise(times)))
    there = set(run(inventory, client, "python3 /opt/reader.py").split())
    lost = sum(n not in there for n, _ in told)
    return f"{gap:.1f} s, {len(told)} acknowledged, {lost} lost, {number + 1} before"


def streams(inventory: Path, primary: str) -> bool:
    """Whether a standby follows."""
    asked = "runuser -u postgres -- psql -XAtc 'select state from pg_stat_replication'"
    return run(inventory, primary, asked) == "streaming"


def with_failover(inventory: Path, rounds: int) -> None:
    """Fail over from one host to the other and back, by hand."""
    groups = json.loads(
        subprocess.run(
            [str(Path(sys.executable).with_name("ansible-inventory")), "-i", str(inventory), "--list"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    )
    client, (first, second) = groups["app_hosts"]["hosts"][0], groups["database_hosts"]["hosts"][:2]
    run(inventory, client, "apt-get install -qq -y python3-psycopg2 >/dev/null")
    run(inventory, client, "umask 077; cat /srv/apps/*/releases/*/secrets/DATABASE_URL >/opt/address")
    for _ in range(rounds):
        state = run(inventory, first, "runuser -u postgres -- psql -XAtc 'select pg_is_in_recovery()'")
        old, new = (first, second) if state == "f" else (second, first)
        act = partial(play, "playbooks/failover.yml", "-e", f"to={new}", inventory=str(inventory))
        print(f"failover.yml: {outage(inventory, client, old, act)}", flush=True)
        play("playbooks/lab_up.yml", inventory=str(inventory))
        play("playbooks/rejoin.yml", "-e", f"host={old}", inventory=str(inventory))
        await_true(partial(streams, inventory, new), "a standby")


def with_patroni(rounds: int) -> None:
    """Make three hosts of it and take each leader's power away."""
    etcd = ",".join(f"{address}:2379" for address in MEMBERS.values())
    members = ",".join(f"{name}=http://{address}:2380" for name, address in MEMBERS.items())
    words = f"host={','.join(MEMBERS.values())} user=postgres dbname=postgres password=bench {URL}"

    def states(inventory: Path, at: str) -> dict[str, str]:
        found = run(inventory, at, "patronictl -c /etc/patroni/config.yml list -f json", check=False)
        return {one["Member"]: f"{one['Role']} {one['State']}" for one in json.loads(found or "[]")}

    def whole(inventory: Path, at: str) -> bool:
        return sorted(states(inventory, at).values()) in WHOLE

    with tempfile.TemporaryDirectory() as scratch:
        inventory = Path(scratch, "hosts.yml")
        hosts = {name: {"ansible_host": address} for name, address in MEMBERS.items()}
        inventory.write_text(INVENTORY.format(hosts=json.dumps(hosts), lab=LAB, network=NETWORK))
        play("playbooks/lab_up.yml", inventory=str(inventory))
        try:
            run(
                inventory,
                "all",
                "mkdir -p /etc/postgresql-common/createcluster.d; echo create_main_cluster=false >/etc/postgresql-common/createcluster.d/no.conf; "
                "apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends postgresql-15 patroni etcd-server etcd-client python3-psycopg2 "
                "python3-etcd >/dev/null; systemctl stop etcd patroni; rm -rf /var/lib/etcd/default",
            )
            for name, address in MEMBERS.items():
                known = {"name": name, "address": address, "members": members, "etcd": etcd, "network": NETWORK}
                run(
                    inventory,
                    name,
                    f"cat >/etc/default/etcd <<'END'\n{ETCD.format(**known)}END\ncat >/etc/patroni/config.yml <<'END'\n{PATRONI.format(**known)}END\n"
                    f"umask 077; echo '{words}' >/opt/address; systemctl enable etcd patroni; systemctl start --no-block etcd",
                )
            for name in MEMBERS:
                run(inventory, name, "sleep 3; systemctl start patroni")
            await_true(lambda: whole(inventory, "p1"), "three members")
            for _ in range(rounds):
                leader = next(name for name, state in states(inventory, "p1").items() if state.startswith("Leader"))
                client = next(name for name in MEMBERS if name != leader)
                print(f"Patroni: {outage(inventory, client, leader, lambda: None)}", flush=True)
                play("playbooks/lab_up.yml", inventory=str(inventory))
                await_true(partial(whole, inventory, client), "three members")
        finally:
            play("playbooks/lab_down.yml", inventory=str(inventory))


WHOLE: Sequence[list[str]] = (
    ["Leader running", "Replica running", "Replica running"],
    ["Leader running", "Replica streaming", "Replica streaming"],
)


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("inventory", type=Path, nargs="?")
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    if asked.inventory:
        with_failover(asked.inventory.resolve(), asked.rounds)
    else:
        with_patroni(asked.rounds)


if __name__ == "__main__":
    main()
