"""What the inventory check says about balancers."""

from __future__ import annotations

import pytest

from praetor.inventory.balancers import BalancerVariables, CheckedApp, problems

APPS: list[CheckedApp] = [{"name": "api", "path": "/up", "status": None, "authority": False}]
PAIR = {"lb1": "198.51.100.21", "lb2": "198.51.100.22"}


def pair(*addresses: str, hosts: dict[str, str] | None = None, number: int = 51) -> dict[str, BalancerVariables]:
    """Return balancers that share addresses."""
    return {
        host: {"ansible_host": own, "keepalived_addresses": list(addresses), "keepalived_router_id": number}
        for host, own in (hosts or PAIR).items()
    }


def said(
    balancers: dict[str, BalancerVariables],
    mode: str = "internal",
    path: str | None = "/up",
    status: int | None = None,
    *,
    authority: bool = False,
) -> str:
    """Return all problems as one text."""
    app: CheckedApp = {"name": "api", "path": path, "status": status, "authority": authority}
    return "\n".join(problems(balancers, ["app1"], [app], mode))


def test_no_balancers_one_and_two_with_an_address_are_fine() -> None:
    assert problems({}, ["app1"], APPS, "acme") == []
    assert said(pair(hosts={"lb1": "198.51.100.21"})) == ""
    assert said(pair("198.51.100.20/24", hosts={"lb1": "198.51.100.21"})) == "", "while its pair is replaced"
    assert said(pair("198.51.100.20/24", "2001:db8::20/64")) == ""
    assert said(pair("198.51.100.20/24", hosts={"lb1": "lb1.example.org", "lb2": "lb2.example.org"})) == ""


@pytest.mark.parametrize(
    ("balancers", "expected"),
    [
        (pair(), "keepalived_addresses: found none with two balancers"),
        (pair("203.0.113.20/24"), r"expected an address in the network of lb1 (198.51.100.21)"),
        (pair("198.51.100.20"), "expected an address with the prefix"),
        (pair("nowhere/24"), "expected an address with the prefix"),
        (pair("198.51.100.21/24"), "which is lb1 itself"),
        (pair("198.51.100.20/24", "198.51.100.30/24"), "more than one IPv4 address"),
        (pair("198.51.100.20/24", number=256), "keepalived_router_id: found 256"),
        (pair("198.51.100.20/24", hosts={**PAIR, "lb3": "198.51.100.23"}), "found 3 hosts, expected one or two"),
        (
            pair("198.51.100.20/24", hosts={**PAIR, "app1": "198.51.100.11"}),
            "app1: found in balancer_hosts and in another",
        ),
        (
            {**pair("198.51.100.20/24"), **pair("198.51.100.20/24", hosts={"lb2": "198.51.100.22"}, number=52)},
            "lb2: found keepalived_router_id 52",
        ),
        ({**pair("198.51.100.20/24"), **pair(hosts={"lb2": "198.51.100.22"})}, "lb2: found keepalived_addresses []"),
    ],
)
def test_what_cannot_work_is_refused(balancers: dict[str, BalancerVariables], expected: str) -> None:
    assert expected in said(balancers)


@pytest.mark.parametrize(("mode", "why"), [("none", "end the clients' TLS"), ("x", "no such mode")])
def test_a_mode_that_balancers_cannot_serve_is_refused(mode: str, why: str) -> None:
    assert why in said(pair("198.51.100.20/24"), mode)


def test_certificates_may_come_from_any_authority() -> None:
    for mode in ("internal", "provided", "acme"):
        assert said(pair("198.51.100.20/24"), mode) == ""


def test_a_health_check_that_means_drained_is_refused() -> None:
    assert "404 says that a host is drained" in said(pair("198.51.100.20/24"), status=404)


def test_certificates_of_clients_are_refused_where_somebody_else_ends_their_tls() -> None:
    assert "expected none with balancer_hosts" in said(pair("198.51.100.20/24"), authority=True)


def test_an_app_that_says_nothing_about_its_health_is_refused() -> None:
    # Its first page may answer 404, which would drain every host.
    assert "expected one with balancer_hosts" in said(pair("198.51.100.20/24"), path=None)
    assert said(pair("198.51.100.20/24"), path=None, status=302) == ""
    assert said(pair("198.51.100.20/24"), path="/up") == ""
