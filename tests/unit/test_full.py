"""A full disk is known by the number of an error; only what a program printed is read as a text."""

import errno
import os
import sys
from pathlib import Path

import pytest
from project import ROOT

from praetor.host import full
from praetor.host.output import run


def test_what_programs_print_of_a_full_disk_is_one() -> None:
    said = run([sys.executable, "-c", "open('/dev/full', 'w', buffering=1).write('a\\n')"]).printed
    assert full.says_full(said)
    assert full.says_full("error: failed to copy (os error 122)")
    assert not full.says_full(os.strerror(errno.EACCES))


def test_a_file_that_does_not_fit_has_no_room_and_one_byte_has(tmp_path: Path) -> None:
    room = os.statvfs(tmp_path)
    later = tmp_path / "not/there/yet"
    assert full.work(place=str(later), size=1) == {}
    found = full.work(place=str(later), size=room.f_blocks * room.f_frsize + 1)
    assert found["full"] == str(later)
    assert f"no room for an upload of {room.f_blocks * room.f_frsize + 1} bytes to {later}" in found["reason"]


@pytest.mark.parametrize(("inodes", "free", "fits"), [(0, 0, True), (100, 0, False), (100, 1, True)])
def test_inodes_count_where_a_file_system_counts_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, inodes: int, free: int, *, fits: bool
) -> None:
    real = os.statvfs(tmp_path)
    monkeypatch.setattr(os, "statvfs", lambda _: os.statvfs_result([*real[:5], inodes, free, free, *real[8:]]))
    assert full.has_room(tmp_path, 1) is fits


def test_only_one_place_reads_it_from_a_text() -> None:
    words = ("No space left", "os error 28", "Disk quota exceeded")
    sources = [path for folder in ("src/praetor", "plugins") for path in (ROOT / folder).rglob("*.py")]
    assert sources
    assert [path for path in sources if any(word in path.read_text(encoding="utf-8") for word in words)] == []
