"""What can happen to hosts and balancers, and what clients may notice of it at the address.

Steps with the mark `short` are the short form, which scenario `balancers` runs on two app hosts: they name the first and the second only.
"""

from __future__ import annotations

import json
import re
import secrets
import ssl
import time
from collections.abc import Callable

import pytest
from balanced import BREAK_S, Balanced, Certificate, NewConnections, until
from client import Site
from reached import Host
from variants import SITE

OTHER = "other.lab.example"
short = pytest.mark.short


@short
def test_cable_of_an_app_host_cut(fleet: Balanced) -> None:
    began = time.time()
    with fleet.cable_cut(fleet.second):
        until("both balancers call it DOWN", lambda: fleet.says(fleet.second, "DOWN"))
        time.sleep(5)
    # No GET fails.
    fleet.excuse_in_hands(began - 1, time.time())


def test_plain_reboot_of_an_app_host(fleet: Balanced) -> None:
    host = fleet.first
    boot, began = host.boot(), time.time()
    host.run("systemctl reboot", check=False)
    host.await_other_boot(boot)
    # A download takes longer than a host waits when it stops.
    fleet.step.excuse(lambda it: it.kind == "download" and it.ended > began)


@short
def test_maintain_reboots_an_app_host(fleet: Balanced) -> None:
    boot = fleet.second.boot()
    run = fleet.run("maintain", host="app2", reboot="always", update=False)
    until("it is drained", lambda: _drained(fleet.second))
    # Another run would find the other hosts serving, too.
    with run.standing_still():
        for playbook in ("maintain", "drain"):
            other = fleet.run(playbook, host="app1")
            other.must_end(
                "fleet is locked by", "for: maintain", "now in phase 'app2'. Nothing was changed", well=False
            )
    assert not _drained(fleet.first)
    run.must_end(well=True)
    assert fleet.second.boot() not in {"", boot}


def test_haproxy_reloaded_six_times(fleet: Balanced) -> None:
    for _ in range(6):
        for balancer in fleet.balancers:
            fleet.reload(balancer)


def test_certificate_renewed_without_a_reload(fleet: Balanced) -> None:
    workers = [fleet.look(balancer)["worker"] for balancer in fleet.balancers]
    renewed = Certificate(fleet).renew()
    fleet.run("provision", flags=["--limit=app1:balancer_hosts", "--tags=certificates,haproxy"]).must_end(well=True)
    for balancer in fleet.balancers:
        assert Certificate.shown_at(fleet, balancer.address) == renewed, f"{balancer.name} shows another certificate"
    assert [fleet.look(balancer)["worker"] for balancer in fleet.balancers] == workers, "a reload"
    # Nor does the next reload bring the old one back.
    fleet.reload(fleet.balancers[0])
    assert Certificate.shown_at(fleet, fleet.balancers[0].address) == renewed


def test_a_pair_that_does_not_match_changes_nothing(fleet: Balanced) -> None:
    shown = Certificate.shown_at(fleet, fleet.address)
    with Certificate(fleet).damaged():
        said = fleet.run("provision", flags=["--limit=app1:balancer_hosts", "--tags=certificates,haproxy"])
        said.must_end("found a key that does not belong to", well=False)
    assert Certificate.shown_at(fleet, fleet.address) == shown


def test_certificates_by_acme(fleet: Balanced) -> None:
    limit = ["--limit=app1:balancer_hosts", "--tags=certificates,haproxy,acme"]
    with fleet.without_load(), fleet.acme_authority() as (by_acme, root):
        issued = ssl.create_default_context(cadata=root)
        with fleet.new_connections(roots=root) as watched:
            fleet.run_with(by_acme, "provision", flags=limit).must_end(well=True)
            shown = [Certificate.shown_at(fleet, balancer.address, issued) for balancer in fleet.balancers]
            # What is asked for at the address: each got one, and one of them has not got the address.
            assert len({*shown}) == 2, shown
            again = fleet.run_with(by_acme, "provision", flags=limit).must_end(well=True)
            assert re.findall(r"changed=(?!0)", again) == [], again
            workers = [fleet.look(balancer)["worker"] for balancer in fleet.balancers]
            for balancer in fleet.balancers:
                # As if the certificate had reached its last third.
                about = "/etc/letsencrypt/renewal/sample.conf"
                balancer.run(f"sed -i '1i renew_before_expiry = 36500 days' {about}")
                balancer.run("systemctl start certbot.service")
                balancer.run(f"sed -i 1d {about}")
            time.sleep(1)
            renewed = [Certificate.shown_at(fleet, balancer.address, issued) for balancer in fleet.balancers]
            assert not {*shown} & {*renewed}, renewed
            assert [fleet.look(balancer)["worker"] for balancer in fleet.balancers] == workers, "a reload"
            fleet.run("provision", flags=limit).must_end(well=True)
            for balancer in fleet.balancers:
                balancer.run("certbot delete --non-interactive --cert-name sample")
                # The next authority of this address does not know the account.
                balancer.run("rm -r /etc/letsencrypt/accounts")
        assert Certificate.shown_at(fleet, fleet.address) not in renewed
        assert watched.breaks() == []
    fleet.step.notes.append(f"{len(watched.tried)} handshakes by another client, all of a certificate to believe")


def _power_off(host: Host) -> None:
    host.run("reboot -ff", check=False)


def _kill_haproxy(host: Host) -> None:
    host.run("systemctl kill --kill-whom=all --signal=KILL haproxy")


def _kill_keepalived(host: Host) -> None:
    host.run("systemctl kill --kill-whom=all --signal=KILL keepalived")


def _stop_haproxy(host: Host) -> None:
    host.run("systemctl stop haproxy")


@pytest.mark.parametrize(
    "how",
    [pytest.param(_power_off, marks=short, id="power"), _kill_haproxy, _kill_keepalived, _stop_haproxy],
)
def test_balancer_killed(fleet: Balanced, how: Callable[[Host], None]) -> None:
    holder = fleet.holder()
    boot = holder.boot()
    # What the other one's own address does not do within a second either is this machine's doing.
    [other] = [balancer for balancer in fleet.balancers if balancer != holder]
    with (
        fleet.new_connections() as watched,
        fleet.new_connections(fleet.address6) as watched6,
        fleet.new_connections(other.address) as compared,
    ):
        began = time.time()
        how(holder)
        time.sleep(8)
        over = time.time()
        if how is _stop_haproxy:
            assert fleet.holder() != holder
            holder.run("systemctl start haproxy")
        until(
            f"{holder.name} is up again",
            lambda: holder.boot() and fleet.look(holder)["servers"],  # type: ignore[arg-type, return-value]
        )
        assert how is not _power_off or holder.boot() != boot
        until("one has the address", lambda: sum(fleet.look(each)["holds"] for each in fleet.balancers) == 1)
        time.sleep(3)
    gap, gap6 = watched.longest_break_s(), watched6.longest_break_s()
    fleet.step.notes.append(f"no new connection for {gap:.1f} s, by IPv6 for {gap6:.1f} s")
    slow = compared.longest_break_s()
    said = (
        f"no new connection for {gap:.1f} s, by IPv6 for {gap6:.1f} s, at {other.name}'s own address for {slow:.1f} s"
    )
    assert max(gap, gap6) <= BREAK_S + slow, said
    for since, before in watched.breaks():
        fleet.excuse_new_connections(since, before)
    time.sleep(12)  # who hangs on a connection that is gone gives up
    lost = fleet.excuse_open_connections(began, over)
    fleet.step.notes[-1] += f"; {lost} requests on connections that were open"


@short
def test_clients_come_by_ipv6_too(fleet: Balanced) -> None:
    place = Site(fleet.address6, ssl.create_default_context(cafile=fleet.roots))
    wanted = f"by-ipv6-{secrets.token_hex(8)}"
    assert place.ask(SITE, "/", {"X-Request-ID": wanted}).status == 200
    plain = Site(fleet.address6, None).ask(SITE, "/")
    assert (plain.status, plain.headers["Location"]) == (308, f"https://{SITE}/")
    # The app hosts know who asked, although they have no address of this family; NGINX writes its log once a second.
    lines: list[str] = []

    def logged() -> bool:
        asked = f"grep -h {wanted} /var/log/nginx/sample.access.log"
        lines[:] = [host.run(asked, check=False) for host in fleet.hosts]
        return any(lines)

    until("the request is in an access log", logged)
    assert json.loads("".join(lines))["client"] == f"{fleet.address6.removesuffix('20')}1", lines


@short
def test_release(fleet: Balanced) -> None:
    fleet.release(fleet.variant())


@short
def test_rollback(fleet: Balanced) -> None:
    fleet.roll_back(fleet.past[-2])


@short
def test_bad_release(fleet: Balanced) -> None:
    variant = fleet.variant("traffic")
    # Each host meets its share of the clients only.
    fleet.refuse(variant, "flip failed on", "were answered with 5xx", sample_bake_s=10)
    # Only clients can find this out: those that the canary answered.
    fleet.step.excuse(lambda it: it.status == 500)
    fleet.step.may_serve(variant)


def test_release_with_another_name_and_another_health_check(fleet: Balanced) -> None:
    variant = fleet.variant()
    code = variant.path / "sample.py"
    text = code.read_text(encoding="utf-8")
    # What balancers have asked for until now is gone with the flip, and what they are to ask for is not there before.
    code.write_text(
        text.replace('"/health/ready"', '"/health/whole"').replace('answer("ready")', 'answer("ready", 203)')
    )
    source, health = str(variant.path), {"path": "/health/whole", "status": 203}
    asked = fleet.with_names([OTHER, SITE], health)
    # The company has given out no certificate for it.
    fleet.run_with(asked, "release", sample_source=source).must_end(OTHER, well=False)
    Certificate(fleet).renew(OTHER)
    fleet.run_with(asked, "release", sample_source=source).must_end(well=True)
    fleet.now_live(variant)
    answer = Site(fleet.address, ssl.create_default_context(cafile=fleet.roots)).ask(OTHER, "/")
    assert answer.status == 200
    # What provision.yml tells them by itself fits what is live, too.
    flags = ["--limit=app1:balancer_hosts", "--tags=certificates,haproxy"]
    fleet.run("provision", flags=flags).must_end(well=True)
    until("both balancers use every host", lambda: all(fleet.says(host, "UP") for host in fleet.hosts))
    renamed = fleet.with_names(["third.lab.example"], health)
    refused = fleet.run_with(renamed, "release", sample_source=source)
    refused.must_end("balancers reach hosts by a name that both have", well=False)
    fleet.release(fleet.variant())


def test_drain_survives_a_reload_and_a_reboot(fleet: Balanced) -> None:
    host = fleet.second
    fleet.run("drain", host="app2", why="a new disk").must_end(well=True)
    boot = host.boot()
    for balancer in fleet.balancers:
        fleet.reload(balancer)
    # A reload forgets what it has counted, and until its first check HAProxy takes every host for one that serves.
    until("both balancers see it drained", lambda: fleet.says(host, "NOLB", "DOWN"))
    had = {balancer.name: fleet.look(balancer)["requests"]["app2"] for balancer in fleet.balancers}
    host.run("systemctl reboot", check=False)
    host.await_other_boot(boot)
    time.sleep(4)
    for balancer in fleet.balancers:
        seen = fleet.look(balancer)
        assert seen["servers"]["app2"].startswith(("NOLB", "DOWN")), seen
        assert seen["requests"]["app2"] == had[balancer.name], seen
    fleet.run("status").must_end("app2: drained since", "a new disk", well=True)
    fleet.run("undrain", host="app2").must_end(well=True)


@short
def test_the_last_host_is_not_drained(fleet: Balanced) -> None:
    *others, last = fleet.hosts
    for host in others:
        fleet.run("drain", host=host.name).must_end(well=True)
    try:
        fleet.run("drain", host=last.name).must_end("sample: 0 of at least 1 serve", well=False)
        assert fleet.says(last, "UP")
        fleet.run("maintain", host=last.name).must_end("sample: 0 of at least 1 serve", well=False)
    finally:
        for host in others:
            fleet.run("undrain", host=host.name).must_end(well=True)


def _drained(host: Host) -> bool:
    return host.run("test -e /var/lib/praetor/balanced/drained && echo yes", check=False) == "yes\n"


def _stands_aside(balancer: Host) -> bool:
    return balancer.run("systemctl is-active keepalived", check=False) == "inactive\n"


def _drains(host: Host, _: str) -> bool:
    return _drained(host)


def _gives_the_address_away(balancer: Host, _: str) -> bool:
    return _stands_aside(balancer)


def _reboots(host: Host, _: str) -> bool:
    return host.boot() == ""


def _is_looked_at(host: Host, boot: str) -> bool:
    return host.boot() not in {"", boot}


def _comes_back(host: Host, boot: str) -> bool:
    return _is_looked_at(host, boot) and not _drained(host)


@pytest.mark.parametrize("when", [_drains, _reboots, _is_looked_at, _comes_back])
def test_controller_of_maintain_killed(fleet: Balanced, when: Callable[[Host, str], bool]) -> None:
    host = fleet.first
    with fleet.boots_slowly(host):
        _kill_and_run_again(fleet, host, when)
    assert not _drained(host)


@pytest.mark.parametrize("when", [_gives_the_address_away, _reboots, _is_looked_at])
def test_controller_killed_with_a_balancer(fleet: Balanced, when: Callable[[Host, str], bool]) -> None:
    holder, began = fleet.holder(), time.time()
    with fleet.new_connections() as watched, fleet.boots_slowly(holder):
        _kill_and_run_again(fleet, holder, when)
    assert not _stands_aside(holder)
    assert fleet.look(holder)["closing"] is False
    _count_what_a_move_costs(fleet, watched, began)


def _count_what_a_move_costs(fleet: Balanced, watched: NewConnections, began: float) -> None:
    """An address takes no connections with it: what these lost is counted, and new ones come about soon."""
    gap = watched.longest_break_s()
    assert gap <= BREAK_S, f"no new connection for {gap:.1f} s"
    for since, before in watched.breaks():
        fleet.excuse_new_connections(since, before)
    lost = fleet.excuse_open_connections(began, time.time())
    fleet.step.notes.append(f"the address's move: {lost} requests, no new connection for {gap:.1f} s")


def _kill_and_run_again(fleet: Balanced, host: Host, when: Callable[[Host, str], bool]) -> None:
    """Kill a run at that moment; the next begins at once, whether the host answers by then or not."""
    asked = {"host": host.name, "reboot": "always", "update": False}
    boot = host.boot()
    run = fleet.run("maintain", **asked)
    until(f"{host.name} {when.__name__.strip('_')}", lambda: when(host, boot), 300)
    run.kill()
    words = ["Wait at most 300 s until this host answers"] if when is _reboots else []
    fleet.run("maintain", **asked).must_end(*words, well=True)


def test_maintenance_lets_in_whom_it_names_and_ends_by_itself(fleet: Balanced) -> None:
    load = f"{fleet.address.rpartition('.')[0]}.1"
    fleet.run("maintenance", for_time="90s", allow=load).must_end("clients get 503 until", well=True)
    status, kind, again = fleet.asked_from(fleet.first)
    assert (status, kind) == (503, "application/problem+json")
    assert 0 < again <= 90
    assert fleet.asked_from(fleet.first, "text/html")[:2] == (503, "text/html; charset=utf-8")
    for balancer in fleet.balancers:
        fleet.reload(balancer)
    assert fleet.asked_from(fleet.first)[0] == 503, "a reload ended it"
    fleet.run("status").must_end("sample: in maintenance until", well=True)
    until("it has ended", lambda: fleet.asked_from(fleet.first)[0] == 200)


def test_maintenance_closes_an_app_and_is_ended(fleet: Balanced) -> None:
    fleet.run("maintenance", app="sample", for_time="10m").must_end(well=True)
    time.sleep(2)
    fleet.step.excuse(lambda it: it.status == 503)
    closed = {it.kind for it in fleet.collect() if it.status == 503}
    assert closed >= {"get", "get-new", "post", "get-h2"}, closed
    fleet.run("maintenance", app="sample", end=True).must_end("clients are answered", well=True)


def test_requests_wait_while_they_are_held(fleet: Balanced) -> None:
    fleet.run("maintenance", hold="5s").must_end("requests wait until", well=True)
    # Those that wait are counted once they are answered.
    until("a request that waited is answered", lambda: max(it.latency_s for it in fleet.collect()) > 2, 30)


def test_whole_fleet_maintained(fleet: Balanced) -> None:
    boots = [host.boot() for host in [*fleet.hosts, *fleet.balancers]]
    with fleet.new_connections() as watched:
        began = time.time()
        fleet.run("maintain", reboot="always").must_end(well=True)
    assert not set(boots) & {host.boot() for host in [*fleet.hosts, *fleet.balancers]}
    _count_what_a_move_costs(fleet, watched, began)


def test_a_host_is_replaced_by_one_with_the_next_debian(fleet: Balanced) -> None:
    known = fleet.known_hosts()
    new = {"ansible_host": "{{ lab_host_network }}.14", "lab_host_suite": "trixie"}
    four = fleet.with_hosts({**known, "app4": new})
    fleet.run_with(four, "lab_up").must_end(well=True)
    others = [host.run("cat /proc/sys/kernel/random/boot_id") for host in fleet.hosts]
    fleet.run_with(four, "deploy", flags=["--limit=app4:balancer_hosts"]).must_end(well=True)
    until(
        "both balancers use app4", lambda: all(fleet.look(each)["servers"]["app4"] == "UP" for each in fleet.balancers)
    )
    assert [host.run("cat /proc/sys/kernel/random/boot_id") for host in fleet.hosts] == others
    fleet.run_with(four, "drain", host="app3", why="it goes").must_end(well=True)
    three = fleet.with_hosts({**{name: it for name, it in known.items() if name != "app3"}, "app4": new})
    fleet.run_with(three, "status").must_end("app3: the balancers know it and the inventory does not", well=True)
    fleet.run_with(three, "provision", flags=["--limit=app1:balancer_hosts"]).must_end(well=True)
    fleet.gone = [host for host in fleet.hosts if host.name == "app3"]
    fleet.take(three)


def test_app_hosts_show_their_sites_to_balancers_and_nothing_to_strangers(fleet: Balanced) -> None:
    *asked, other = fleet.hosts
    # App hosts ask each other who runs what may run once. One that has left the inventory is a stranger to those that were provisioned since.
    seen_by: list[tuple[Host, list[Host], set[str]]] = [(fleet.balancers[0], asked, {"443"}), (other, asked, {"9443"})]
    seen_by += [(host, asked[:1], set()) for host in fleet.gone]
    for by, hosts, expected in seen_by:
        by.run("DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet --no-install-recommends nmap")
        found = " ".join(
            ["nmap -Pn -n -p- --open --min-rate 3000 --max-retries 1 -oG -", *(host.address for host in hosts)]
        )
        said = by.run(found)
        assert f"{len(hosts)} hosts up" in said or f"{len(hosts)} host up" in said, said
        # SSH is for the networks of administrators, of which none of these is.
        assert set(re.findall(r"(\d+)/open/tcp", said)) == expected, said
    fleet.step.notes.append(f"open of 65535: 443 to balancers, 9443 to app hosts, none to {len(fleet.gone)} stranger")


def test_release_after_everything(fleet: Balanced) -> None:
    fleet.release(fleet.variant())
