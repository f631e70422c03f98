"""Who gets in: logins, ports, and what becomes of those who try again and again."""

from __future__ import annotations

import hashlib
import json
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from testinfra.host import Host

# `sshd -T` of what must hold, whatever else the configuration says.
SSHD = {
    "permitrootlogin": "no",
    "passwordauthentication": "no",
    "kbdinteractiveauthentication": "no",
    "authenticationmethods": "publickey",
    "permitemptypasswords": "no",
    "x11forwarding": "no",
    "permittunnel": "no",
    "allowagentforwarding": "no",
}
WEAK = ("sha1", "-cbc", "group1", "group14", "ssh-dss", "arcfour", "3des", "hmac-md5", "umac-64")


def login(settings: dict[str, Any], *options: str, user: str = "") -> str:
    """Try to log in as somebody would; returns what ssh says about it."""
    given = settings["ssh_args"].split()
    # Never by a connection that is there already.
    command = ["ssh", "-oControlMaster=no", "-oControlPath=none", "-oBatchMode=yes", "-oConnectTimeout=10", *options]
    key = ["-i", settings["key"]] if settings["key"] else []
    name = user or settings["user"]
    place = [
        *given,
        *key,
        "-p",
        str(settings["port"]),
        f"{name}@{settings['address']}" if name else settings["address"],
    ]
    done = subprocess.run([*command, *place, "echo in"], capture_output=True, text=True, check=False, timeout=30)
    return done.stdout.strip() if done.returncode == 0 else done.stderr


def test_a_key_gets_in(settings: dict[str, Any]) -> None:
    assert login(settings) == "in"


def test_root_does_not_log_in(settings: dict[str, Any]) -> None:
    assert "Permission denied (publickey)" in login(settings, user="root")


def test_passwords_are_not_even_asked_for(settings: dict[str, Any]) -> None:
    said = login(settings, "-oPubkeyAuthentication=no", "-oPreferredAuthentications=password,keyboard-interactive")
    assert "Permission denied (publickey)" in said


@pytest.mark.parametrize(
    "weak",
    [
        "-oKexAlgorithms=diffie-hellman-group14-sha1",
        "-oKexAlgorithms=ecdh-sha2-nistp256",
        "-oCiphers=aes128-cbc",
        "-oCiphers=aes256-ctr",
        "-oMACs=hmac-sha1",
        "-oHostKeyAlgorithms=ssh-rsa",
    ],
)
def test_weak_algorithms_are_refused(settings: dict[str, Any], weak: str) -> None:
    # With CTR ciphers only: the others bring their own MAC.
    said = login(settings, weak, *(["-oCiphers=aes256-ctr"] if "MACs" in weak else []))
    assert "no matching" in said


def test_sshd_runs_with_what_was_confirmed(host: Host) -> None:
    shown = [line.partition(" ") for line in host.check_output("/usr/sbin/sshd -T").splitlines()]
    effective = {name: value for name, _, value in shown}
    assert {name: effective.get(name) for name in SSHD} == SSHD
    algorithms = [effective[name] for name in ("kexalgorithms", "ciphers", "macs", "hostkeyalgorithms")]
    assert [word for word in ",".join(algorithms).split(",") if any(weak in word for weak in WEAK)] == []
    assert "allowgroups" in effective


def test_every_key_that_may_log_in_is_known(host: Host, settings: dict[str, Any]) -> None:
    homes = [line.split(":")[5] for line in host.check_output("getent passwd").splitlines()]
    files = " ".join(f"{home}/.ssh/authorized_keys {home}/.ssh/authorized_keys2" for home in sorted(set(homes)))
    lines = host.run(f"cat {files}").stdout.splitlines()
    found = {word for line in lines for word in line.split() if word.startswith("AAAA")}
    known = {word for key in settings["known_keys"] for word in key.split() if word.startswith("AAAA")}
    strange = [hashlib.sha256(key.encode()).hexdigest()[:8] + " ..." + key[-16:] for key in sorted(found - known)]
    assert not strange, f"keys that ssh_known_keys does not name: {', '.join(strange)}"


def test_the_firewall_is_the_one_that_was_confirmed(host: Host) -> None:
    confirmed = json.loads(host.check_output("cat /var/lib/praetor/trials/firewall/confirmed.json"))
    text = host.check_output("nft --stateless list table inet praetor")
    assert text.count("policy drop") == 2
    # testinfra takes the last line end.
    assert hashlib.sha256(f"{text}\n".encode()).hexdigest() == confirmed["effect"]
    on_disk = host.file("/etc/nftables.conf").content
    assert hashlib.sha256(on_disk).hexdigest() == confirmed["content"]
    assert host.check_output("systemctl is-enabled nftables.service") == "enabled"


def test_a_change_that_cuts_ssh_could_undo_itself(host: Host) -> None:
    left = host.run("systemctl is-active praetor-undo-firewall.timer praetor-undo-ssh.timer")
    assert "\nactive" not in f"\n{left.stdout}", "a trial that nobody has confirmed is under way"
    assert host.run("command -v systemd-run").rc == 0


@pytest.mark.parametrize("jail", ["sshd", "json-flood"])
def test_a_jail_watches(host: Host, jail: str, balancers: dict[str, dict[str, Any]]) -> None:
    if balancers and jail == "json-flood":
        pytest.skip("balancers refuse clients that ask too much, and are who asks this host")
    assert "Currently banned" in host.check_output("fail2ban-client status %s", jail)


def test_only_refusals_count_as_a_flood_and_a_client_cannot_blame_another(host: Host) -> None:
    line = (
        '{"ts":%d.123,"request_id":"x","method":"GET","uri":"%s","status":%d,"request_time_s":0.0,'
        '"bytes":1,"client":"192.0.2.7","host":"h","user_agent":"%s"}'
    )
    now = int(host.check_output("date +%s"))
    blame = '\\\\",\\\\"status\\\\":429,\\\\"client\\\\":\\\\"198.51.100.9\\\\"'.replace("\\\\", "\\")
    cases = {
        line % (now, "/", 429, "agent"): 1,
        line % (now, "/", 200, "agent"): 0,
        line % (now, f"/{blame}", 200, blame): 0,
    }
    for text, matches in cases.items():
        said = host.run("fail2ban-regex --print-all-matched %s /etc/fail2ban/filter.d/json-flood.conf", text).stdout
        assert f"{matches} matched" in said, text
        assert "198.51.100.9" not in said.partition("Lines:")[0]
