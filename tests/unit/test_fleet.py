"""Balancers: what is wired to them, what HAProxy says is understood, and what that means for a host that leaves or comes back."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA1, SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from project import ROOT, imported, load, options

from praetor.host import balancer, current_unit, drained
from praetor.host.layout import ReleaseError
from praetor.run import fleet, notes, tables

if TYPE_CHECKING:
    from praetor.host.balancer import Server, Servers

HOSTS: dict[str, dict[str, Any]] = {
    "app1": {"ansible_host": "192.0.2.11", "firewall_admin_networks": ["192.0.2.200"]},
    "app2": {"ansible_host": "2001:db8::12"},
    "lb1": {"ansible_host": "192.0.2.21"},
    "lb2": {"ansible_host": "192.0.2.22"},
    "mon1": {"ansible_host": "192.0.2.13"},
}
GROUPS = {"app_hosts": ["app1", "app2"], "balancer_hosts": ["lb1", "lb2"], "monitoring_hosts": ["mon1"]}
APP: dict[str, Any] = {
    "name": "api",
    "wsgi": "api.wsgi:app",
    "server_names": ["api.example.org", "*.api.example.org"],
    "redirect_names": ["www.example.org"],
    "health": {"path": "/up", "status": 204},
    "limits": {"request_s": 12, "body_mb": 1, "memory_mb": 1},
    "http": {"paths": [], "stream_s": 3600, "access": None},
}


def rules(host: str) -> dict[str, Any]:
    """Return whom the firewall of a host lets in, by what for."""
    allowed = imported("plugins/filter/wiring.py").firewall_allow(host, GROUPS, HOSTS)
    for rule in allowed:
        assert rule.keys() <= options("firewall")["firewall_allow"]["options"].keys()
    return {rule["name"]: rule.get("from") for rule in allowed}


def test_behind_balancers_an_app_host_takes_sites_from_them_monitoring_and_admins_only() -> None:
    assert rules("app1")["sites"] == ["192.0.2.13", "192.0.2.200", "192.0.2.21", "192.0.2.22"]
    assert rules("app2")["sites"] == ["192.0.2.13", "192.0.2.21", "192.0.2.22"]


def test_a_balancer_takes_clients_and_the_signs_of_life_of_its_pair() -> None:
    assert rules("lb1") == {"sites": None, "who holds the address": ["192.0.2.22"], "metrics": ["192.0.2.13"]}
    assert rules("mon1")["logs"] == ["192.0.2.11", "192.0.2.21", "192.0.2.22", "2001:db8::12"]


def test_every_app_becomes_a_site_that_every_app_host_serves() -> None:
    (site,) = imported("plugins/filter/wiring.py").haproxy_sites([APP], GROUPS, HOSTS)
    assert site.keys() == options("haproxy")["haproxy_sites"]["options"].keys()
    assert [server["address"] for server in site["servers"]] == ["192.0.2.11:443", "[2001:db8::12]:443"]
    assert (site["health"], site["request_s"]) == ({"path": "/up", "status": [204]}, 12)
    assert site["server_names"] == ["api.example.org", "*.api.example.org", "www.example.org"]


def test_hosts_are_asked_by_a_name_and_for_a_status_that_what_is_live_has_too() -> None:
    def survey(name: str, status: int | None) -> dict[str, Any]:
        settings = {"server_names": [name, "*.api.example.org"], "health": {"path": "/old", "status": status}}
        return {"apps": {"api": {"manifest": {"settings": settings}}}}

    sites = imported("plugins/filter/wiring.py").haproxy_sites
    (site,) = sites(
        [APP], GROUPS, HOSTS, [survey("old.example.org", 302), survey("api.example.org", None), {"apps": {}}]
    )
    assert site["server_names"] == ["*.api.example.org", "api.example.org", "www.example.org"]
    assert site["health"] == {"path": "/old", "status": [200, 204, 302]}


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        ([], 12),
        ([{"stream": False, "request_s": 300}, {"stream": False, "request_s": None}], 300),
        ([{"stream": True, "request_s": None}], 3600),
    ],
)
def test_a_balancer_waits_as_long_as_the_slowest_answer_may_take(paths: list[dict[str, Any]], expected: int) -> None:
    app = {**APP, "http": {"paths": paths, "stream_s": 3600, "access": None}, "health": {"path": None, "status": 302}}
    (site,) = imported("plugins/filter/wiring.py").haproxy_sites([app], GROUPS, HOSTS)
    assert (site["request_s"], site["health"]) == (expected, {"path": "/", "status": [302]})


def test_names_are_asked_for_at_the_shared_address_and_at_each_host() -> None:
    monitoring = imported("plugins/filter/monitoring.py")
    shared = {**HOSTS, "lb1": {**HOSTS["lb1"], "keepalived_addresses": ["192.0.2.20/24"]}}
    seen = monitoring.probes(["app1"], shared, [APP], "provided", ["lb1", "lb2"])
    modules = monitoring.probe_modules([APP], "provided", ["lb1", "lb2"])
    asked = {each["targets"][0]: modules[each["labels"]["__param_module"]]["http"].get("tls_config") for each in seen}
    assert asked == {
        "https://192.0.2.11/up": {"ca_file": "/etc/praetor/tls/host/authority.pem"},
        "https://192.0.2.20/up": None,
    }
    alone = monitoring.probes(["app1"], HOSTS, [APP], "internal", ["lb1"])
    assert [each["labels"]["instance"] for each in alone] == ["app1", "lb1"]


def test_a_shared_address_is_a_label_of_its_probe_as_the_kernel_writes_it() -> None:
    shared = {**HOSTS, "lb1": {**HOSTS["lb1"], "keepalived_addresses": ["192.0.2.20/24", "2001:DB8:0::20/64"]}}
    for balancers, found in ((["lb1", "lb2"], [None, "192.0.2.20", "2001:db8::20"]), (["lb2"], [None, None])):
        seen = imported("plugins/filter/monitoring.py").probes(["app1"], shared, [APP], "provided", balancers)
        assert [each["labels"].get("address") for each in seen] == found


def test_a_balancers_own_exporters_are_served_to_monitoring_hosts() -> None:
    endpoint = imported("plugins/filter/monitoring.py").metrics_endpoint("lb1", GROUPS, HOSTS)
    assert endpoint["sources"] == {"node": "127.0.0.1:9100", "haproxy": "127.0.0.1:8405"}
    assert endpoint.keys() == options("haproxy")["haproxy_metrics"]["options"].keys()


CONFIG = (ROOT / "roles/haproxy/templates/haproxy.cfg.j2").read_text(encoding="utf-8")


def test_what_haproxy_accepts_and_ignores_or_cannot_run_is_not_in_its_configuration() -> None:
    servers = [line for line in CONFIG.splitlines() if line.startswith("    server {{ server.name")]
    assert servers
    assert all("tcp-ut" in line for line in servers), "in default-server it is accepted and never set"
    assert not re.search(r"-m reg|,regsub|_reg\b|-i reg|reqrep", CONFIG), "a regular expression needs writable code"
    defaults = CONFIG.partition("\ndefaults\n")[2].partition("\nfrontend")[0]
    assert "http-after-response" not in defaults
    switches = load(ROOT / "roles/haproxy/vars/main.yml")["__haproxy_switches"]
    names = re.findall(r"[a-z]+\.map", switches)
    assert len(names) == 3
    assert "allowed_" in switches
    for name in [*names, "allowed_{{ site.name }}.lst"]:
        assert f"/etc/haproxy/{name}" in CONFIG + (ROOT / "roles/haproxy/files/hold.lua").read_text(), (
            "HAProxy changes only lists that something refers to"
        )


PROC = """#<PID>          <type>          <reloads>       <uptime>        <version>
1822            master          1 [failed: 0]   0d00h05m18s     2.6.12-1+deb12u4
# workers
2027            worker          0               0d00h00m43s     2.6.12-1+deb12u4
# old workers
1901            worker          1               0d00h05m10s     2.6.12-1+deb12u4
# programs

"""


def test_the_worker_that_takes_connections_is_found_among_those_that_end() -> None:
    assert current_unit.haproxy_workers(PROC) == [2027]
    assert current_unit.haproxy_workers("") == []


def test_a_reload_that_loaded_nothing_is_tried_again_however_young_systemd_says_it_is() -> None:
    shown = current_unit.parse_show(
        "LoadState=loaded\nUnitFileState=enabled\nActiveState=active\n"
        "ActiveEnterTimestamp=Sun 2026-11-22 12:00:10.5 UTC\nStateChangeTimestamp=Sun 2026-11-22 12:00:20.5 UTC\n"
    )
    noon = 1795348800.0
    assert current_unit.decide(shown, [], [noon + 15]) == []
    assert current_unit.decide(shown, [], [noon + 15], loaded=noon + 12) == ["reload"]
    assert current_unit.decide(shown, [], [noon + 15], loaded=noon + 16) == []


STAT = """# pxname,svname,qcur,qmax,scur,smax,status,weight,check_status,last_chk,
metrics,FRONTEND,,,0,1,OPEN,,,,
exporter_node,local,0,0,0,1,no check,1,,,
acme-peers,peer1,0,0,0,1,no check,1,,,
api,app1,0,0,2,9,UP,1,L7OK,,
api,app2,1,1,0,9,NOLB,1,L7OKC,Not Found,
api,BACKEND,0,1,2,9,UP,2,,,
"""


def test_the_hosts_of_each_site_are_read_out_of_haproxys_table() -> None:
    assert balancer.servers(STAT) == {
        "api": {
            "app1": {"status": "UP", "sessions": 2, "queued": 0, "why": "L7OK"},
            "app2": {"status": "NOLB", "sessions": 0, "queued": 1, "why": "L7OKC Not Found"},
        }
    }


def server(status: str = "UP", sessions: int = 0, queued: int = 0) -> Server:
    """Return what a balancer says about a host."""
    return {"status": status, "sessions": sessions, "queued": queued, "why": "L7OK"}


def test_the_last_host_of_an_app_cannot_leave() -> None:
    two: Servers = {"api": {"app1": server(), "app2": server()}, "shop": {"app1": server()}}
    assert fleet.alone(two, "app2", 1) == []
    assert fleet.alone(two, "app1", 1) == ["shop: 0 of at least 1 serve (no other host)"]
    assert fleet.alone(two, "app2", 2) == ["api: 1 of at least 2 serve (app1 UP)"]
    assert fleet.alone({"api": {"app1": server(), "app2": server("DOWN")}}, "app1", 1) == [
        "api: 0 of at least 1 serve (app2 DOWN)"
    ]
    assert fleet.alone({"api": {"app1": server("UP 1/2"), "app2": server()}}, "app2", 1) == []
    assert fleet.alone({"api": {"app1": server("DOWN")}}, "", 1) == ["api: 0 of at least 1 serve (app1 DOWN)"]


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (server("NOLB"), []),
        (server("DOWN"), []),  # after a reboot: a 404 does not lift a host that is down
        (server("UP"), ["api: still UP"]),
        (server("NOLB", 1), ["api: 1 request"]),
        (server("NOLB", 1, 2), ["api: 3 requests"]),
    ],
)
def test_a_host_is_quiet_when_nothing_new_comes_and_nothing_old_is_left(state: Server, expected: list[str]) -> None:
    assert fleet.busy({"api": {"app1": state}, "shop": {"app2": server()}}, "app1") == expected


def test_a_host_is_back_when_every_app_uses_it() -> None:
    assert fleet.unused({"api": {"app1": server()}, "shop": {"app1": server("UP 1/2")}}, "app1") == []
    assert fleet.unused({"api": {"app1": server("NOLB")}}, "app1") == ["api: NOLB (L7OK)"]
    assert "provision.yml" in fleet.unused({"api": {"app2": server()}}, "app1")[0]


def test_a_host_that_balancers_know_and_the_inventory_does_not_is_named() -> None:
    assert fleet.strangers({"lb1": {"api": {"app1": server(), "old": server()}}}, ["app1", "app2"]) == ["old"]


def test_a_list_is_changed_in_its_file_and_in_what_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(balancer, "ask", lambda command, _admin: asked.append(command))
    (tmp_path / "switches.map").write_text("other 1\n")
    assert balancer.put("switches.map", {"closing": "1"}, tmp_path)
    assert (tmp_path / "switches.map").read_text() == "other 1\nclosing 1\n"
    assert asked == [
        f"del map {tmp_path}/switches.map closing",
        f"add map {tmp_path}/switches.map closing 1",
    ]
    assert not balancer.put("switches.map", {"closing": "1"}, tmp_path)
    assert balancer.put("switches.map", {"closing": None}, tmp_path)
    assert (tmp_path / "switches.map").read_text() == "other 1\n"


def test_a_balancer_that_does_not_answer_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match=r"HAProxy does not answer on .*systemctl status haproxy"):
        balancer.ask("show stat", tmp_path / "admin.sock")


def test_this_host_has_loopback_and_not_another_hosts_address() -> None:
    assert balancer.has("127.0.0.1/8")
    assert not balancer.has("192.0.2.1/24")


def test_a_drained_host_tells_who_drained_it_also_from_a_file_that_was_cut_short(tmp_path: Path) -> None:
    file = tmp_path / "praetor/drained"
    assert drained.look(file) is None
    drained.drain({"by": "ada@desk", "since": "2026-11-26T01:00:00Z", "why": "new disk"}, file)
    assert drained.look(file) == {"by": "ada@desk", "since": "2026-11-26T01:00:00Z", "why": "new disk"}
    assert file.stat().st_mode & 0o777 == 0o644, "NGINX looks for it as www-data"
    file.write_text(json.dumps({"by": "a"})[:4])
    assert drained.look(file) == {"by": "?", "since": "?", "why": ""}


def test_a_host_with_another_release_than_the_others_is_not_put_back() -> None:
    differ = imported("plugins/filter/wiring.py").releases_that_differ
    here = {"apps": {"api": {"live": "1.0-a"}, "shop": {"live": None}}}
    others = [{"apps": {"api": {"live": "1.1-b"}, "shop": {"live": "2.0-c"}}}, {"unreachable": True}]
    assert differ(here, others) == ["api (1.0-a here, 1.1-b on others)", "shop (nothing here, 2.0-c on others)"]
    assert differ(here, [{"apps": {"api": {"live": "1.0-a"}, "shop": {"live": None}}}]) == []


def test_the_table_has_what_balancers_say_and_names_who_is_drained() -> None:
    def state(live: str) -> Any:
        found = {
            "live": live,
            "path": "/health",
            "since": None,
            "workers": 1,
            "busy": 0,
            "running": True,
            "provisioned": True,
            "health": "healthy",
        }
        return {
            **found,
            "manifest": None,
            "outdated": [],
            "journal": None,
            "leftovers": [],
            "frozen": None,
            "made_live_by": None,
            "settled": True,
            "processes": [],
            "jobs": [],
            "share": {},
        }

    looks: dict[str, Servers] = {
        "lb1": {"api": {"app1": server(), "app2": server("NOLB"), "old": server()}},
        "lb2": {"api": {"app1": server(), "app2": server("UP")}},
    }
    drained_by = {"by": "ada@desk", "since": "2026-11-26T01:00:00Z", "why": "new disk"}
    surveys: Any = {
        "app1": {"apps": {"api": state("1.0-a")}, "balancers": looks, "fleet": ["app1", "app2"]},
        "app2": {"apps": {"api": state("1.0-a")}, "drained": drained_by, "closed": {"api": 1795348800}},
    }
    assert [row["balancers"] for row in tables.status(surveys)] == ["UP", "lb1 NOLB, lb2 UP"]
    said = "\n".join(notes.notes(surveys))
    assert (
        "app2: drained since 2026-11-26T01:00:00Z by ada@desk: new disk; playbooks/undrain.yml -e host=app2 ends it"
        in said
    )
    assert "api: in maintenance until 2026-11-22 12:00:00 UTC; playbooks/maintenance.yml -e app=api -e end=true" in said
    assert "old: the balancers know it and the inventory does not" in said
    assert "balancers" not in tables.status({"app1": {"apps": {"api": state("1.0-a")}}})[0]


PAIRS = imported("roles/haproxy/files/haproxy_certificates.py")
SHOWN = """Filename: /etc/haproxy/certificates/api.pem
Status: Used
Serial: 3D05
SHA1 FingerPrint: {}
"""


def test_a_certificate_is_replaced_only_where_haproxy_shows_another_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name, now = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "api")]), datetime.now(UTC)
    new = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + timedelta(days=1)).sign(key, SHA256())
    chain, mark = new.public_bytes(Encoding.PEM).decode(), new.fingerprint(SHA1()).hex().upper()  # noqa: S303  HAProxy's
    assert PAIRS.fingerprint(chain + "\n" + chain) == mark
    assert PAIRS.shown(SHOWN.format(mark)) == mark
    assert PAIRS.shown("Can't display the certificate: Not found or the certificate is a bundle!\n") is None
    asked: list[str] = []

    def answer(_admin: str, command: str) -> str:
        asked.append(command)
        return "Transaction created for certificate x!\n" if command.startswith("set") else "Committing x.\nSuccess!\n"

    monkeypatch.setattr(PAIRS, "ask", answer)
    assert PAIRS.replace("admin", str(tmp_path / "api.pem"), chain + "\n\nkey\n") == ""
    assert "\n\n" not in asked[0], "an empty line ends the payload"
    assert [command.split()[0] for command in asked] == ["set", "commit"]


def test_a_pair_that_haproxy_refuses_leaves_what_it_had(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def answer(_admin: str, command: str) -> str:
        asked.append(command.split(maxsplit=1)[0])
        return "inconsistencies between private key and certificate loaded 'x'.\nCan't update x!\n"

    monkeypatch.setattr(PAIRS, "ask", answer)
    assert "goes on with what it had: inconsistencies" in PAIRS.replace("admin", "x", "pair")
    assert asked == ["set", "abort"]
