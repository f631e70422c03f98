"""Which host of a fleet has what runs once, and how it gets to another one."""

from __future__ import annotations

from typing import Any, cast

import pytest
from fakes import manifest_of, process

from praetor.documents import Surveys
from praetor.host.layout import ReleaseError
from praetor.run.places import fleet, move, places

ONCE = {"api": ["beat"]}
MANIFEST = manifest_of("1-a")
MANIFEST["settings"]["processes"] = [process("beat", one=True)]


def surveys(**shares: dict[str, int] | None) -> Surveys:
    """What hosts run, by name; None is a host that gave no answer."""
    found: Any = {
        host: {"away": "no route"}
        if share is None
        else {"apps": {"api": {"share": share, "manifest": MANIFEST, "live": "1-a"}}, "drained": None}
        for host, share in shares.items()
    }
    return cast("Surveys", found)


def takers(found: Surveys, hosts: list[str]) -> list[str]:
    return [host for host, place in places("api", found, hosts).items() if place["takes"]]


def test_the_first_host_takes_what_nobody_has() -> None:
    assert takers(surveys(web1={}, web2={}), ["web1", "web2"]) == ["web1"]


def test_a_drained_host_takes_nothing() -> None:
    found = surveys(web1={}, web2={})
    found["web1"]["drained"] = {"by": "ann", "since": "", "why": ""}
    assert takers(found, ["web1", "web2"]) == ["web2"]


def test_nobody_takes_what_a_host_that_was_not_asked_may_have() -> None:
    assert takers(surveys(web1={}), ["web1", "web2"]) == []


def test_of_two_hosts_that_have_the_same_one_keeps_it() -> None:
    found = places("api", surveys(web1={"beat": 1}, web2={"beat": 1}), ["web1", "web2"])
    assert [found["web1"]["held"], found["web2"]["held"]] == [[], ["beat"]]


def test_a_fleet_is_of_the_hosts_that_have_the_app() -> None:
    hostvars = {"web1": {"apps": [{"name": "api"}]}, "web2": {"apps": [{"name": "shop"}]}, "web3": {}}
    assert fleet("api", {"groups": {"app_hosts": ["web1", "web2", "web3"]}, "hostvars": hostvars}) == ["web1"]


def test_it_ends_before_it_starts() -> None:
    found = move(ONCE, surveys(web1={"beat": 1}, web2={"beat": 0}), "api", "beat", "web2", "")
    assert found == {"ends": ["web1"], "starts": "web2"}


def test_it_is_left_where_it_is() -> None:
    found = move(ONCE, surveys(web1={"beat": 1}, web2={}), "api", "beat", "web1", "")
    assert found == {"ends": [], "starts": ""}


def test_from_a_host_that_is_off_it_moves_only_when_somebody_says_so() -> None:
    found = surveys(web1=None, web2={})
    with pytest.raises(ReleaseError, match=r"web1 gives no answer, and beat may run there.*-e dead=web1"):
        move(ONCE, found, "api", "beat", "web2", "")
    assert move(ONCE, found, "api", "beat", "web2", "web1") == {"ends": [], "starts": "web2"}


def test_a_host_that_waits_for_a_dead_one_is_told_to_start() -> None:
    found = surveys(web1=None, web2={"beat": 1})
    assert move(ONCE, found, "api", "beat", "web2", "web1") == {"ends": [], "starts": "web2"}
    assert move(ONCE, surveys(web1={}, web2={"beat": 1}), "api", "beat", "web2", "")["starts"] == ""


@pytest.mark.parametrize(
    ("app", "process", "to", "dead", "said"),
    [
        ("shop", "beat", "web1", "", "-e app=shop: expected one of: api"),
        ("api", "worker", "web1", "", "-e process=worker: .* it has: beat"),
        ("api", "beat", "web9", "", "-e to=web9: .* one of: web1, web2"),
        ("api", "beat", "web1", "web2", "web2 answers, so it is not off"),
        ("api", "beat", "web1", "web9", "web9 is no app host"),
    ],
)
def test_what_cannot_be_is_refused(app: str, process: str, to: str, dead: str, said: str) -> None:
    with pytest.raises(ReleaseError, match=said):
        move(ONCE, surveys(web1={"beat": 1}, web2={}), app, process, to, dead)
