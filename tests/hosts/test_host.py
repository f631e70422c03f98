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


def test_the_journal_cannot_fill_the_disk(host: Host) -> None:
    # No flood: these tests run on real hosts too.
    settings = host.check_output("systemd-analyze cat-config systemd/journald.conf | grep -v '^#'")
    limits = dict(line.split("=", 1) for line in settings.splitlines() if "=" in line)
    assert limits["Storage"] == "persistent"
    assert int(limits["RateLimitBurst"]) > 0
    assert size(limits["SystemKeepFree"]) > 0
    used = int(host.check_output("du -sk /var/log/journal").split()[0]) * 1024
    # It rotates when a file is full, so the last one may be beyond the limit by its own size.
    assert 0 < used <= size(limits["SystemMaxUse"]) * 9 / 8
    # What journald itself goes by, as it said at its start.
    said = host.check_output(
        "journalctl --quiet --output=cat --unit=systemd-journald --grep 'System Journal' --lines=1"
    )
    assert f"max {limits['SystemMaxUse']}" in said.replace(".0G", "G").replace(".0M", "M")


def size(text: str) -> int:
    """Read a size as systemd's settings have it."""
    return int(float(text[:-1]) * {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}[text[-1]])
