"""What lies where on a host, and that each change of it is the old or the new."""

import errno
import os
from pathlib import Path
from typing import cast

import pytest
from fakes import host_in, provision, put_release, put_slot

from praetor.build.manifest import identify
from praetor.documents import Artifact, Entry
from praetor.entry import SETTINGS
from praetor.host import layout as hosts
from praetor.host.layout import SUN_PATH_MAX, AppHost, Emperor, Slot, link_atomically, read_json, write_atomically


def test_a_slot_is_read_back_from_its_name() -> None:
    slot = Slot("my_api", "1.2.3+local-0a1b2c3d", 12)
    assert slot.name == "my_api.1.2.3+local-0a1b2c3d.12"
    assert Slot.parse(slot.name) == slot


@pytest.mark.parametrize("name", ["", "api", "api.1", "Api.1-a.1", ".tmp.api.1-a.1", "api.1-a.x", "api.1-a.1.ini"])
def test_other_names_are_no_slots(name: str) -> None:
    assert Slot.parse(name) is None


def test_a_slot_name_is_never_used_twice(host: AppHost) -> None:
    first = host.next_slot("1-a")
    assert host.next_slot("1-a").number == first.number + 1
    # Whichever of the three memories is lost, the others know.
    put_slot(host, "1-a", 7)
    assert host.next_slot("1-a").number == 8
    host.metrics(Slot("api", "1-b", 11)).mkdir()
    (host.root / "slots.json").unlink()
    assert host.next_slot("2-b").number == 12


def test_slots_of_another_app_with_a_similar_name_are_not_ours(host: AppHost) -> None:
    provision(host.layout, "api2")
    put_slot(AppHost("api2", host.layout), "1-a", 1)
    assert host.slots() == []
    assert AppHost("api2", host.layout).slots() == [Slot("api2", "1-a", 1)]


def test_slots_are_listed_oldest_first(host: AppHost) -> None:
    for count in (10, 2, 9):
        put_slot(host, "1-a", count)
    assert [slot.number for slot in host.slots()] == [2, 9, 10]


def test_nothing_is_live_before_the_first_flip(host: AppHost) -> None:
    assert host.live() is None
    assert host.live_since() is None


def test_flip_points_the_live_link_to_the_slots_socket(host: AppHost) -> None:
    slot = Slot("api", "1-a", 1)
    host.flip(slot)
    assert host.live() == slot
    assert host.live_link.readlink() == host.socket(slot)
    assert host.live_since() is not None


def test_flip_back_needs_no_room_on_the_disk(host: AppHost, monkeypatch: pytest.MonkeyPatch) -> None:
    old, new = Slot("api", "1-a", 1), Slot("api", "2-b", 2)
    host.flip(old)
    host.flip(new)

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "symlink_to", full)
    host.flip_back(old)
    assert host.live() == old


def test_flip_back_to_another_slot_than_the_last_ignores_the_link_that_was_kept(host: AppHost) -> None:
    one, two, three = (Slot("api", "1-a", count) for count in (1, 2, 3))
    host.flip(one)
    host.flip(two)
    host.flip_back(three)
    assert host.live() == three


def test_releases_are_listed_from_the_last_staged_and_only_when_complete(host: AppHost) -> None:
    put_release(host, "1-a", age_s=50)
    put_release(host, "2-b", age_s=10)
    put_release(host, "3-c", age_s=30)
    host.release_dir("4-d").mkdir()
    assert host.releases() == ["2-b", "3-c", "1-a"]
    assert host.manifest("4-d") is None


def test_a_release_that_is_pruned_while_a_survey_looks_is_no_error(
    host: AppHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_release(host, "1-a")
    gone = host.release_dir("0-z") / "release.json"
    found = [host.release_dir("1-a") / "release.json", gone]
    monkeypatch.setattr(Path, "glob", lambda *_: iter(found))
    assert host.releases() == ["1-a"]


def test_a_host_without_the_app_has_nothing(place: Path) -> None:
    bare = AppHost("api", host_in(place, "other").layout)
    assert (bare.releases(), bare.slots(), bare.leftovers(), bare.live()) == ([], [], [], None)


def test_leftovers_are_what_no_slot_and_no_release_needs(host: AppHost) -> None:
    put_release(host, "1-a")
    slot = put_slot(host, "1-a", 1)
    for needed in (host.socket(slot), host.stats(slot)):
        needed.touch()
    host.metrics(slot).mkdir()
    dead = Slot("api", "1-a", 2)
    half = host.release_dir("2-b")
    half.mkdir()
    expected = [half, host.socket(dead), host.stats(dead), host.metrics(dead), host.root / ".tmp.bad.json"]
    expected.append(host.vassals(Emperor("api", 1)) / ".tmp.api.1-a.3.ini.new")
    for path in expected[1:]:
        path.touch()
    dangling = host.root / ".tmp.live.sock.new"
    dangling.symlink_to("nowhere")
    (host.vassals(Emperor("api", 1)) / ".tmp.api2.1-a.3.ini.new").touch()
    (host.run_dir / "something.else").touch()
    assert host.leftovers() == sorted([*expected, dangling])


def test_a_file_is_written_with_its_mode_and_leaves_no_other(place: Path) -> None:
    path = place / "file.json"
    write_atomically(path, "old", 0o600)
    write_atomically(path, "new", 0o640)
    assert path.read_text(encoding="utf-8") == "new"
    assert path.stat().st_mode & 0o7777 == 0o640
    assert list(place.iterdir()) == [path]


def test_a_file_that_cannot_be_written_stays_as_it_was(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = place / "file.json"
    write_atomically(path, "old", 0o600)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_atomically(path, "new", 0o600)
    assert path.read_text(encoding="utf-8") == "old"
    assert list(place.iterdir()) == [path]


def test_the_temporary_name_of_a_vassal_is_none_that_the_emperor_starts(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = place / "api.1-a.1.ini"
    monkeypatch.setattr(Path, "rename", lambda *_: None)
    link_atomically(place / "target", link)
    [left] = place.iterdir()
    assert left.suffix != ".ini"
    assert left.name.startswith(".tmp.api.")


def test_json_that_is_absent_or_cut_short_is_nothing(place: Path) -> None:
    assert read_json(place / "none.json") is None
    (place / "half.json").write_text('{"a": ', encoding="utf-8")
    assert read_json(place / "half.json") is None


def test_a_directory_a_link_to_one_and_nothing_are_removed(place: Path) -> None:
    (place / "directory" / "inner").mkdir(parents=True)
    (place / "link").symlink_to(place / "directory")
    hosts.remove(place / "link")
    assert (place / "directory" / "inner").is_dir()
    hosts.remove(place / "directory")
    hosts.remove(place / "directory")
    assert list(place.iterdir()) == []


def test_an_app_without_a_user_is_not_provisioned() -> None:
    with pytest.raises(hosts.ReleaseError, match="no user 'no_such_app': it was not provisioned"):
        hosts.user_of("no_such_app")


@pytest.mark.parametrize("name", ["a", "a" * 31])
def test_the_longest_socket_path_fits_into_its_structure(name: str, place: Path) -> None:
    app = dict.fromkeys(SETTINGS, "") | {"name": name}
    artifact = {"artifact": "0" * 64, "commit": None, "version": "1.2.3.post4.dev5+" + "long" * 30}
    release = identify(cast("Entry", app), cast("Artifact", artifact), [], {}, place)
    slot = AppHost(name).stats(Slot(name, release, 99999))
    assert len(os.fsencode(slot)) <= SUN_PATH_MAX
    assert release.startswith("1.2.3")
    assert Slot.parse(Slot(name, release, 1).name) == Slot(name, release, 1)
