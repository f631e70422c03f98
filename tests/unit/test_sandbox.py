"""The limits of an app's slice, its loosened sandbox, and the words for what a sandbox refused."""

from typing import Any, cast

import pytest
from fakes import manifest_of
from project import ROOT

from praetor.documents import Manifest
from praetor.host import sandbox
from praetor.host.layout import AppHost

LIMITS = {
    "memory_max": "80%",
    "memory_high": "70%",
    "cpu_weight": 100,
    "cpu_quota": None,
    "tasks_max": 4096,
    "io_weight": 100,
}


def limited(release: str, **limits: Any) -> Manifest:
    """The manifest of a release with limits."""
    found: Any = manifest_of(release)
    found["settings"]["limits"] = {**LIMITS, **limits}
    return cast("Manifest", found)


def lines(host: AppHost) -> set[str]:
    return set((host.layout.units / host.slice).read_text(encoding="utf-8").splitlines())


def test_a_slice_has_the_limits_of_its_release(host: AppHost) -> None:
    assert sandbox.limit(host, limited("1-a", memory_max=1024, cpu_quota=150))
    expected = {"MemoryMax=1024M", "MemoryHigh=70%", "CPUWeight=100", "CPUQuota=150%", "TasksMax=4096", "IOWeight=100"}
    assert {line for line in lines(host) if "=" in line} - {"Description=App api"} == expected
    assert not sandbox.limit(host, limited("2-b", memory_max=1024, cpu_quota=150)), "nothing to do"


@pytest.mark.parametrize(
    ("one", "other", "shown"),
    [
        ({"memory_max": 512}, {"memory_max": 1024}, "MemoryMax=1024M"),
        ({"memory_max": "10%"}, {"memory_max": "9%"}, "MemoryMax=10%"),
        ({"memory_max": 64}, {"memory_max": "100%"}, "MemoryMax=100%"),
        ({"tasks_max": 100}, {"tasks_max": 20}, "TasksMax=100"),
    ],
)
def test_two_slots_side_by_side_have_the_wider_limits(
    host: AppHost, one: dict[str, Any], other: dict[str, Any], shown: str
) -> None:
    for pair in ((one, other), (other, one)):
        sandbox.limit(host, *(limited("1-a", **limits) for limits in pair))
        assert shown in lines(host)


def test_no_limit_is_wider_than_any(host: AppHost) -> None:
    sandbox.limit(host, limited("1-a", cpu_quota=50), limited("2-b"))
    assert not [line for line in lines(host) if line.startswith("CPUQuota")]
    earlier = manifest_of("0-z")  # staged before there were such limits
    sandbox.limit(host, limited("1-a"), earlier)
    assert [line for line in lines(host) if "=" in line] == ["Description=App api"]


@pytest.mark.parametrize(
    ("log", "key"),
    [
        ("MemoryError: Cannot allocate write+execute memory for ffi.callback(). You might be", "write_execute: true"),
        ("LLVM ERROR: Unable to allocate section memory!", "write_execute: true"),
        ("PermissionError: [Errno 13] cannot allocate executable memory. This may be due to", "write_execute: true"),
        ("ImportError: libx.so: cannot enable executable stack as shared object requires", "write_execute: true"),
        ("DAMN ! worker 1 (pid: 7) died, killed by signal 31 :( trying respawn", "loosened: {SystemCallFilter: why}"),
        ("PermissionError: [Errno 1] Operation not permitted", "loosened: {SystemCallFilter: why}"),
        ("OSError: [Errno 97] Address family not supported by protocol", "loosened: {RestrictAddressFamilies: why}"),
        ("FileNotFoundError: [Errno 2] No such file or directory: '/proc/stat'", "loosened: {ProcSubset: why}"),
    ],
)
def test_what_a_sandbox_refused_is_told_with_the_key_that_allows_it(log: str, key: str) -> None:
    said = sandbox.explain(f"Traceback\n{log}\nmore")
    assert said.count("The sandbox refused it") == 1
    assert key in said


@pytest.mark.parametrize("log", ["", "ModuleNotFoundError: No module named 'x'", "MemoryError", "killed by signal 9"])
def test_other_failures_are_not_blamed_on_the_sandbox(log: str) -> None:
    assert sandbox.explain(log) == ""


def test_the_kernels_audit_names_the_system_call() -> None:
    kernel = (
        'audit: type=1326 audit(1.2:3): auid=1 uid=990 gid=990 comm="uwsgi" sig=31 arch=c000003e syscall=155 compat=0'
    )
    assert "system call 155" in sandbox.explain("", kernel)


def test_each_directive_that_can_be_loosened_is_one_of_the_unit() -> None:
    from project import ROOT  # noqa: PLC0415

    unit = (ROOT / "roles/uwsgi_emperor/templates/app_sandbox.conf").read_text(encoding="utf-8")
    assert [name for name in sandbox.LOOSER if f"{name}=" not in unit] == []


def test_no_unit_is_killed_for_a_system_call_that_it_can_do_without() -> None:
    units = [
        path for path in ROOT.glob("roles/*/templates/*") if "SystemCallFilter=" in path.read_text(encoding="utf-8")
    ]
    assert units
    killed = [path.name for path in units if "SystemCallErrorNumber=EPERM" not in path.read_text(encoding="utf-8")]
    assert killed == []
