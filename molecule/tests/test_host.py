"""A host is a whole, healthy Debian of a supported release after everything that was done to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from testinfra.host import Host


def test_no_unit_of_the_host_has_failed(host: Host) -> None:
    failed = host.check_output("systemctl list-units --failed --plain --no-legend")
    assert failed == ""


def test_host_runs_a_supported_release(host: Host) -> None:
    assert (host.system_info.distribution, host.system_info.release.split(".")[0]) in {
        ("debian", "12"),
        ("debian", "13"),
    }
