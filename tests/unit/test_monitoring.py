"""What the monitoring hosts are told to ask for, and how their files are judged before they are replaced."""

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from project import ROOT, defaults, imported, load, options

from praetor.host import text_files
from praetor.inventory import ports

HOSTVARS = {"app1": {"ansible_host": "192.0.2.11"}, "app2.example": {}}
APP: dict[str, Any] = {
    "name": "api",
    "server_names": ["a.example", "b.example"],
    "health": {"path": "/up?x=1", "status": 204},
    "http": {"access": None},
}


@pytest.fixture(name="wiring")
def _wiring() -> ModuleType:
    return imported("plugins/filter/monitoring.py")


def test_every_name_is_asked_for_at_every_host(wiring: ModuleType) -> None:
    groups = wiring.probes(["app1", "app2.example"], HOSTVARS, [APP], "internal")
    seen = [(group["targets"], group["labels"]["instance"], group["labels"]["__param_hostname"]) for group in groups]
    assert seen == [
        (["https://192.0.2.11/up?x=1"], "app1", "a.example"),
        (["https://192.0.2.11/up?x=1"], "app1", "b.example"),
        (["https://app2.example/up?x=1"], "app2.example", "a.example"),
        (["https://app2.example/up?x=1"], "app2.example", "b.example"),
    ]


def test_a_probe_expects_the_status_that_means_healthy(wiring: ModuleType) -> None:
    modules = wiring.probe_modules([APP, {**APP, "health": {"path": "/", "status": 200}}], "internal")
    assert {name: module["http"]["valid_status_codes"] for name, module in modules.items()} == {
        "http_200": [200],
        "http_204": [204],
    }
    (probe, _) = wiring.probes(["app1"], HOSTVARS, [APP], "none")
    assert probe["labels"]["__param_module"] == "http_204"
    assert probe["targets"] == ["http://192.0.2.11/up?x=1"]
    authority = {"ca_file": "/etc/praetor/tls/host/authority.pem"}
    assert [module["http"].get("tls_config") for module in modules.values()] == [authority, authority]
    (public,) = wiring.probe_modules([APP], "acme").values()
    assert "tls_config" not in public["http"], "whom the system trusts"


def test_who_may_not_reach_an_app_is_told_so_while_it_is_well(wiring: ModuleType) -> None:
    apps = [{**APP, "http": {"access": {"users": "U", "authority": text}}} for text in (None, "PEM")]
    modules = wiring.probe_modules(apps, "internal")
    assert [module["http"]["valid_status_codes"] for module in modules.values()] == [[401], [403]]


def test_an_inventory_without_monitoring_hosts_is_fine() -> None:
    plays = {play["name"]: play for play in load(ROOT / "playbooks/provision.yml")}
    hosts = plays["Provision the monitoring hosts"]["hosts"]
    assert hosts == "{{ groups['monitoring_hosts'] | default([]) }}", (
        "a bare group name is a warning where there is none"
    )


def test_only_monitoring_hosts_are_let_in_to_metrics(wiring: ModuleType) -> None:
    groups = {"app_hosts": ["app1"], "monitoring_hosts": ["mon1", "mon2"]}
    endpoint = wiring.metrics_endpoint("app1", groups, HOSTVARS)
    assert (endpoint["listen"], endpoint["clients"]) == ("192.0.2.11:9443", ["mon1", "mon2"])
    assert endpoint.keys() == options("nginx")["nginx_metrics"]["options"].keys()
    assert wiring.metrics_endpoint("app1", {"app_hosts": ["app1"]}, HOSTVARS) == {}


def test_exporters_are_asked_where_they_listen(wiring: ModuleType) -> None:
    for group, exporters, private in (
        ("app_hosts", wiring.EXPORTERS, [9100, 9113, 9117]),
        ("database_hosts", wiring.DATABASE_EXPORTERS, [9100, 9187]),
        ("backup_hosts", wiring.BACKUP_EXPORTERS, [9100]),
    ):
        listen = {role.removesuffix("_exporter"): defaults(role)[f"{role}_listen"] for role in exporters}
        groups = {"monitoring_hosts": ["mon1"], group: ["app1"]}
        assert wiring.metrics_endpoint("app1", groups, HOSTVARS)["sources"] == listen
        assert wiring.private_ports("app1", groups, HOSTVARS) == private


def test_an_exporter_that_an_inventory_moves_is_asked_and_guarded_there(wiring: ModuleType) -> None:
    groups = {"app_hosts": ["app1"], "balancer_hosts": ["lb1"], "monitoring_hosts": ["mon1"]}
    moved = {
        "app1": {"node_exporter_listen": "127.0.0.1:9999"},
        "lb1": {"haproxy_metrics_port": 8500},
        "mon1": {"journal_remote_port": 20000},
    }
    assert wiring.metrics_endpoint("app1", groups, moved)["sources"]["node"] == "127.0.0.1:9999"
    assert wiring.private_ports("app1", groups, moved) == [9113, 9117, 9999]
    assert wiring.metrics_endpoint("lb1", groups, moved)["sources"] == {
        "node": "127.0.0.1:9100",
        "haproxy": "127.0.0.1:8500",
    }
    # HAProxy passes them on from loopback, and its account's id is not one of those that Debian fixes.
    assert wiring.private_ports("lb1", groups, moved) == []
    assert wiring.journal_url(["mon1"], moved) == "https://mon1:20000"


def test_what_listens_has_an_input_of_its_role_that_says_where() -> None:
    for role, name in ports.INPUTS.items():
        assert name in defaults(role)
        assert name in options(role)


def test_what_is_beside_prometheus_is_asked_over_loopback_in_plain_http(wiring: ModuleType) -> None:
    (group,) = wiring.own_targets("mon1", "node_exporter", {"mon1": {}})
    assert group["targets"] == ["127.0.0.1:9100"]
    assert group["labels"] == {"instance": "mon1", "__scheme__": "http", "__metrics_path__": "/metrics"}
    (other,) = wiring.endpoints(["app1"], HOSTVARS)
    assert other == {"targets": ["192.0.2.11:9443"], "labels": {"instance": "app1"}}


@pytest.mark.parametrize(
    ("commands", "against"),
    [
        ([], ""),
        ([["true"]], ""),
        (
            [["true"], ["sh", "-c", "echo no >&2; exit 3", "sh"], ["false"]],
            "sh -c echo no >&2; exit 3 ended with 3:\nno",
        ),
    ],
)
def test_programs_judge_files_before_they_are_replaced(commands: list[list[str]], against: str) -> None:
    assert text_files.judge({"/etc/thing/a": "1\n"}, commands) == against


def test_files_are_judged_together_and_at_their_own_paths(tmp_path: Path) -> None:
    texts = {f"{tmp_path}/main": "part\n", f"{tmp_path}/parts/part": "text\n"}
    look = ["sh", "-c", 'cat "$(dirname $0)/parts/$(cat $0)"; echo $0; exit 1', f"%s{tmp_path}/main"]
    said = text_files.judge(texts, [look])
    assert said.splitlines()[1:] == ["text", f"{tmp_path}/main"], "the new part, and the file by its own name"
    assert not (tmp_path / "main").exists()
