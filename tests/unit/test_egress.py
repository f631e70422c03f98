"""Where an app may connect to: what is written for nftables, when it is in effect, and what is told of refusals."""

from __future__ import annotations

import grp
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest
from fakes import a_run, manifest_of, put_release, put_slot

from praetor.documents import Entry
from praetor.host import egress
from praetor.host import gate as gates
from praetor.host.journal import phase
from praetor.host.layout import ReleaseError, write_atomically
from praetor.host.settle import abandon, settle
from praetor.inventory.egress import with_services

if TYPE_CHECKING:
    from fakes import FakeEmperor

    from praetor.documents import Manifest, Outgoing
    from praetor.host.layout import AppHost

DATABASE: Outgoing = {"to": ["198.51.100.7"], "ports": [5432], "protocol": "tcp"}
WEB: Outgoing = {"to": ["192.0.2.0/24", "2001:db8::/32"], "ports": [80, 443], "protocol": "tcp"}
# A kernel whose tables are files; it knows of a table what this module asks it.
NFT = """#!/usr/bin/env python3
import json, pathlib, re, sys
kernel, arguments = pathlib.Path({kernel!r}), sys.argv[1:]
if "list" in arguments:
    table = kernel / arguments[-1]
    if not table.exists():
        sys.exit("No such file or directory")
    print(json.dumps({{"nftables": [{{"set": {{"name": "refused4", "elem": {elements}}}}}]}}))
else:
    text = sys.stdin.read() if arguments[-1] == "-" else pathlib.Path(arguments[-1]).read_text()
    if "broken" in text:
        sys.exit("syntax error")
    if "-c" not in arguments:
        for verb, name in re.findall(r"^(table|delete table) inet (\\w+)", text, re.MULTILINE):
            (kernel / name).touch() if verb == "table" else (kernel / name).unlink()
"""


def allowed(release: str, *rules: Outgoing | None) -> Manifest:
    """A release that may connect to what its rules say; with None to anything, as one from before there were rules."""
    found: Any = manifest_of(release)
    if rules != (None,):
        found["settings"]["egress"] = list(rules)
    return cast("Manifest", found)


@pytest.fixture
def kernel(place: Path, host: AppHost, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the directory of a kernel's tables."""
    tables, programs = place / "kernel", place / "programs"
    for directory in (tables, programs):
        directory.mkdir()
    remember(programs, tables, [])
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    monkeypatch.setattr(egress, "RESOLVERS", place / "resolv.conf")
    host.layout.firewall.write_text(f'include "{host.layout.egress}/*.nft"\n', encoding="utf-8")
    return tables


def remember(programs: Path, tables: Path, elements: list[object]) -> None:
    """Have the kernel remember what was refused."""
    # As Python and as JSON it is the same text.
    text = NFT.format(kernel=str(tables), elements=json.dumps(elements))
    (programs / "nft").write_text(text, encoding="utf-8")
    (programs / "nft").chmod(0o755)


def accepted(host: AppHost) -> list[str]:
    """The lines of the app's rules that let something through by its address."""
    text = (host.layout.egress / f"{host.app}.nft").read_text(encoding="utf-8")
    return [line.strip() for line in text.splitlines() if " daddr " in line and line.endswith("accept")]


def test_an_app_may_connect_to_what_its_release_names(host: AppHost, kernel: Path) -> None:
    assert egress.limit(host, allowed("1-a", WEB, DATABASE))
    assert accepted(host) == [
        "ip daddr 192.0.2.0/24 tcp dport { 80, 443 } accept",
        "ip6 daddr 2001:db8::/32 tcp dport { 80, 443 } accept",
        "ip daddr 198.51.100.7 tcp dport { 5432 } accept",
    ]
    assert [path.name for path in kernel.iterdir()] == ["praetor_egress_api"]
    assert egress.is_current(host, allowed("1-a", WEB, DATABASE))
    assert not egress.limit(host, allowed("2-b", WEB, DATABASE)), "nothing to do"


@pytest.mark.usefixtures("kernel")
def test_rules_are_for_the_apps_user_by_number_and_refuse_all_else(host: AppHost) -> None:
    egress.limit(host, allowed("1-a"))
    text = (host.layout.egress / "api.nft").read_text(encoding="utf-8")
    lines = [line.strip() for line in text.partition("chain output {")[2].splitlines()]
    # At boot nobody has names yet.
    assert f"meta skuid != {host.uid} accept" in lines
    assert lines.index('oifname "lo" accept') < lines.index("meta l4proto tcp reject with tcp reset")
    assert [line for line in lines if line.startswith("reject")] == ["reject with icmpx admin-prohibited"]
    assert accepted(host) == []


@pytest.mark.usefixtures("kernel")
def test_all_ports_and_udp_can_be_meant(host: AppHost) -> None:
    egress.limit(host, allowed("1-a", {"to": ["192.0.2.1"], "ports": [], "protocol": "udp"}))
    assert accepted(host) == ["ip daddr 192.0.2.1 meta l4proto udp accept"]


@pytest.mark.usefixtures("kernel")
def test_two_releases_side_by_side_connect_to_what_either_may(host: AppHost) -> None:
    egress.limit(host, allowed("2-b", WEB), allowed("1-a", DATABASE))
    assert {"198.51.100.7", "192.0.2.0/24"} <= set(" ".join(accepted(host)).split())
    assert not egress.is_current(host, allowed("2-b", WEB)), "wider than the release alone"
    egress.limit(host, allowed("2-b", WEB))
    assert "198.51.100.7" not in " ".join(accepted(host))


@pytest.mark.parametrize("pair", [("1", None), (None, "1")])
def test_no_rules_are_wider_than_any(host: AppHost, kernel: Path, pair: tuple[str | None, ...]) -> None:
    egress.limit(host, allowed("1-a", WEB))
    assert egress.limit(host, *(allowed("x", WEB if each else None) for each in pair))
    assert (list(kernel.iterdir()), list(host.layout.egress.iterdir())) == ([], [])
    assert egress.is_current(host, allowed("1-a", None))
    assert not egress.is_current(host, allowed("1-a", WEB))


def test_an_app_without_rules_needs_no_nftables(host: AppHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert not egress.limit(host, allowed("1-a", None), None)
    assert egress.is_current(host, allowed("1-a", None))
    assert egress.refused(host) == []


@pytest.mark.usefixtures("kernel")
def test_resolvers_of_the_host_stay_in_reach(host: AppHost) -> None:
    names = "# by DHCP\nnameserver 198.51.100.53\nnameserver 127.0.0.53\nsearch example\nnameserver fe80::1%eth0\nnameserver x\n"
    egress.RESOLVERS.write_text(names, encoding="utf-8")
    assert egress.limit(host, allowed("1-a"))
    assert accepted(host) == [
        *(f"ip daddr 198.51.100.53 {protocol} dport 53 accept" for protocol in ("udp", "tcp")),
        *(f"ip6 daddr fe80::1 {protocol} dport 53 accept" for protocol in ("udp", "tcp")),
    ]
    egress.RESOLVERS.write_text("nameserver 198.51.100.54\n", encoding="utf-8")
    assert not egress.is_current(host, allowed("1-a")), "the next release names the new one"


def test_rules_that_somebody_took_out_of_the_kernel_are_put_back(host: AppHost, kernel: Path) -> None:
    egress.limit(host, allowed("1-a", WEB))
    (kernel / "praetor_egress_api").unlink()
    assert not egress.is_current(host, allowed("1-a", WEB))
    assert egress.limit(host, allowed("1-a", WEB))
    assert egress.is_current(host, allowed("1-a", WEB))


@pytest.mark.usefixtures("kernel")
def test_a_firewall_that_would_forget_the_rules_at_boot_is_refused(host: AppHost) -> None:
    host.layout.firewall.write_text("table inet praetor {}\n", encoding="utf-8")
    with pytest.raises(ReleaseError, match=r"does not load the rules of egress at boot.*provision\.yml"):
        egress.limit(host, allowed("1-a", WEB))
    assert not host.layout.egress.exists()


@pytest.mark.usefixtures("kernel")
def test_rules_that_nftables_refuses_replace_nothing(host: AppHost) -> None:
    egress.limit(host, allowed("1-a", WEB))
    with pytest.raises(ReleaseError, match="syntax error"):
        egress.limit(host, allowed("2-b", {"to": ["broken"], "ports": [], "protocol": "tcp"}))
    assert egress.is_current(host, allowed("1-a", WEB))


@pytest.mark.usefixtures("kernel")
def test_a_host_that_was_not_provisioned_for_the_app_is_told_so(host: AppHost) -> None:
    host.run_dir.rmdir()
    with pytest.raises(ReleaseError, match="was not provisioned for this app"):
        egress.limit(host, allowed("1-a", WEB))


@pytest.mark.parametrize(
    ("element", "shown"),
    [
        ({"elem": {"val": {"concat": ["192.0.2.1", "tcp", 443]}, "timeout": 86400, "expires": 5}}, "192.0.2.1:443/tcp"),
        ({"elem": {"val": {"concat": ["192.0.2.1", 17, 123]}, "expires": 5}}, "192.0.2.1:123/udp"),
        ({"elem": {"val": {"concat": ["2001:db8::1", 6, 25]}}}, "[2001:db8::1]:25/tcp"),
    ],
)
def test_what_was_refused_is_told_with_the_key_that_allows_it(
    host: AppHost, kernel: Path, element: object, shown: str
) -> None:
    egress.limit(host, allowed("1-a", WEB))
    assert egress.explain(host) == ""
    remember(kernel.parent / "programs", kernel, [element])
    assert egress.refused(host) == [shown]
    assert re.search(rf"tried to connect to {re.escape(shown)}, .* add it to egress", egress.explain(host))


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize("end", ["settled", "failed"])
def test_a_run_widens_the_rules_at_its_gate_and_leaves_those_of_what_is_live(
    host: AppHost, emperor: FakeEmperor, end: str
) -> None:
    groups = grp.getgrgid(host.run_dir.stat().st_gid).gr_name
    for release, rules in (("1-a", [DATABASE]), ("2-b", [WEB])):
        put_release(host, release)
        write_atomically(host.release_dir(release) / "release.json", json.dumps(allowed(release, *rules)), 0o640)
    old = host.next_slot("1-a")
    put_slot(host, "1-a", old.number)
    host.flip(old)
    with phase(host, a_run("r1"), "gate", begins=True) as journal:
        slot = gates.gate(host, allowed("2-b", WEB), "api.example", journal, clients=groups)
        assert len(accepted(host)) == 3, "both"
        journal["previous"] = old.name
        if end == "settled":
            host.flip(slot)
            settle(host, journal, "2-b", 5, 2)
        else:
            abandon(host, journal, "2-b", "it was slow", 2)
    assert egress.is_current(host, allowed("2-b", WEB) if end == "settled" else allowed("1-a", DATABASE))
    assert emperor.started


def test_a_removed_app_leaves_no_rules(host: AppHost, kernel: Path) -> None:
    egress.limit(host, allowed("1-a", WEB))
    assert egress.unlimit(host)
    assert (list(kernel.iterdir()), list(host.layout.egress.iterdir())) == ([], [])
    assert not egress.unlimit(host)


def test_the_database_that_an_entry_asks_for_is_among_what_it_may_connect_to() -> None:
    groups, variables = {"database_hosts": ["db1", "db2"]}, {"db1": {"ansible_host": "198.51.100.8"}, "db2": {}}
    variables["db2"]["ansible_host"] = "198.51.100.7"
    apps = [
        {"name": "closed", "egress": [], "database": {}},
        {"name": "open", "egress": None, "database": {}},
        {"name": "alone", "egress": [], "database": None},
    ]
    closed, open_, alone = (app["egress"] for app in with_services(cast("list[Entry]", apps), groups, variables))
    assert closed == [{"to": ["198.51.100.7", "198.51.100.8"], "ports": [5432], "protocol": "tcp"}]
    assert (open_, alone) == (None, [])
