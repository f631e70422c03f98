"""What an operator writes about a maintenance, and how it reaches those who answer clients."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from praetor.host import balancer, flip
from praetor.host.layout import ReleaseError
from praetor.host.maintenance import Window, allowed_geo, before_pattern, in_haproxy, in_nginx, until_map
from praetor.run.maintenance import MaintenanceError, asked


def test_spans_and_networks_are_read() -> None:
    found = asked("90m", "203.0.113.7, 2001:db8::/32", "", end=False, balancers=True)
    assert found == {"for_s": 5400, "hold_s": None, "allow": ["203.0.113.7/32", "2001:db8::/32"], "end": False}
    assert asked("", "", "20s", end=False, balancers=True)["hold_s"] == 20
    assert asked("", "", "", end=True, balancers=False)["end"]


@pytest.mark.parametrize(
    ("for_time", "allow", "hold", "end", "balancers", "expected"),
    [
        ("", "", "", False, True, "expected one of"),
        ("5m", "", "5s", False, True, "expected one of"),
        ("5m", "", "", True, True, "with it"),
        ("", "", "5s", False, False, "NGINX cannot keep requests waiting"),
        ("", "192.0.2.1", "5s", False, True, "with for_time only"),
        ("5", "", "", False, True, "for_time=5: expected a time span"),
        ("0m", "", "", False, True, "for_time=0m"),
        ("31d", "", "", False, True, "at most 30d"),
        ("", "", "31s", False, True, "at most 30s"),
        ("5m", "192.0.2.1/24", "", False, True, "192.0.2.1/24 has host bits set"),
        ("5m", "home", "", False, True, "expected an address or a network"),
    ],
)
def test_what_contradicts_itself_or_cannot_be_done_is_refused(
    for_time: str, allow: str, hold: str, *, end: bool, balancers: bool, expected: str
) -> None:
    with pytest.raises(MaintenanceError, match=re.escape(expected)):
        asked(for_time, allow, hold, end=end, balancers=balancers)


@pytest.mark.parametrize("until", [1795348801, 1795348800, 1800000000, 1799999999])
def test_the_pattern_knows_the_seconds_before_a_moment_and_no_others(until: int) -> None:
    pattern = re.compile(f"^{before_pattern(until)}")
    for second in [*range(until - 300, until), until - 10**6, 1700000000]:
        assert pattern.match(f"{second}.999"), second
    for second in [*range(until, until + 300), until + 10**6, until + 10**8, 2000000000]:
        assert not pattern.match(f"{second}.000"), second


def test_each_app_is_closed_by_its_own_name_and_opened_to_those_who_are_let_into_it() -> None:
    windows: dict[str, Window] = {
        "api": {"name": "api.example.org", "until": 1795348800, "allow": ["10.0.0.0/8"]},
        "shop": {"name": "*.shop.example.org", "until": 1795348800, "allow": ["10.1.0.0/16", "2001:db8::/32"]},
    }
    lines = until_map(windows).splitlines()
    assert lines[0].startswith('"~^api\\.example\\.org ')
    assert lines[0].endswith('"Sun, 22 Nov 2026 12:00:00 GMT";')
    # NGINX takes the narrowest network alone, so that one has to name both.
    assert allowed_geo(windows).splitlines() == [
        '10.0.0.0/8 "api.example.org";',
        '10.1.0.0/16 "*.shop.example.org api.example.org";',
        '2001:db8::/32 "*.shop.example.org";',
    ]


def test_a_host_that_is_not_prepared_for_it_says_what_to_type(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match=r"playbooks/provision.yml"):
        in_nginx("api", {"name": "a", "until": 9, "allow": []}, 1, tmp_path / "maintenance")


def test_haproxy_is_told_whom_to_let_in_before_it_closes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    monkeypatch.setattr(balancer, "LISTS", tmp_path)
    monkeypatch.setattr(balancer.put, "__defaults__", (tmp_path, tmp_path))
    monkeypatch.setattr(balancer, "ask", lambda command, _admin: told.append(" ".join(command.split()[:2])))
    for name, text in (("allowed_api.lst", "192.0.2.1/32\n"), ("maintenance.map", "shop 9\n"), ("pauses.map", "")):
        (tmp_path / name).write_text(text)
    assert in_haproxy("api", 1795348800, 0, ["192.0.2.2/32"])
    assert told.index("add acl") < told.index("add map")
    assert (tmp_path / "allowed_api.lst").read_text() == "192.0.2.2/32\n"
    assert (tmp_path / "maintenance.map").read_text() == "shop 9\napi 1795348800\n"
    monkeypatch.setattr("time.time", lambda: 1795348000.0)
    assert balancer.closed(tmp_path) == {"api": 1795348800}, "that of shop is over"
    assert in_haproxy("api", 0, 0, [])
    assert (tmp_path / "maintenance.map").read_text() == "shop 9\n"


def test_a_bake_does_not_count_what_nginx_answered_in_maintenance() -> None:
    line = b'{"status":503,"request_time_s":0.0,"ts":100.0,"upstream_connect_time_s":"%s"}'
    assert flip.requests([line % b""]) == []
    assert len(flip.requests([line % b"-"])) == 1, "the app was not reached"
    assert len(flip.requests([line % b"0.001"])) == 1, "the app said so"
