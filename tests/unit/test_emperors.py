"""The Emperors of an app: when another instance is needed, that none that serves is touched, and that none is left."""

import os
import signal
import subprocess
from pathlib import Path

import pytest
from fakes import Systemd, manifest_of, put_emperor, put_release, put_slot

from praetor.host import emperors
from praetor.host.layout import AppHost, Emperor, ReleaseError

MANIFEST = manifest_of("1-a")


@pytest.fixture
def asked(systemd: Systemd) -> list[tuple[str, ...]]:
    """Return what systemd is asked to do in this test."""
    systemd.asked.clear()
    return systemd.asked


def another_uwsgi(host: AppHost) -> Path:
    """What role uwsgi_emperor does with another lock."""
    place, link = host.layout.emperor / "venv-2", host.layout.emperor / "venv"
    place.mkdir()
    link.unlink()
    link.symlink_to(place)
    return place


def test_new_slots_start_in_the_instance_that_is_as_it_must_be(host: AppHost, asked: list[tuple[str, ...]]) -> None:
    assert emperors.ensure(host, MANIFEST) == Emperor("api", 1)
    assert [words[0] for words in asked] == ["is-active"]


@pytest.mark.parametrize("what", ["uwsgi", "unit", "settings"])
def test_what_differs_is_another_instance(host: AppHost, asked: list[tuple[str, ...]], what: str) -> None:
    first = host.drop_in(Emperor("api", 1))
    written = first.read_text(encoding="utf-8")
    if what == "uwsgi":
        another_uwsgi(host)
    else:
        place = {"unit": host.layout.units / "uwsgi-emperor@.service", "settings": host.layout.emperor / "emperor.ini"}
        with place[what].open("a", encoding="utf-8") as file:
            file.write("# changed\n")
    assert emperors.outdated(host, Emperor("api", 1), MANIFEST) == [
        "uWSGI, the unit of the Emperor or the app's sandbox was changed"
    ]
    assert emperors.ensure(host, MANIFEST) == Emperor("api", 2)
    assert ("enable", "--now", "--quiet", "uwsgi-emperor@api-2.service") in asked
    assert first.read_text(encoding="utf-8") == written
    assert emperors.ensure(host, MANIFEST) == Emperor("api", 2)


def test_an_instance_says_who_where_and_with_what(host: AppHost) -> None:
    lines = host.drop_in(Emperor("api", 1)).read_text(encoding="utf-8").splitlines()
    assert {"User=api", "Group=api", "Slice=apps-api.slice", f"ReadWritePaths={host.run_dir} {host.data}"} <= set(lines)
    [start] = [line for line in lines if line.startswith("ExecStart=")]
    assert start.startswith(f"ExecStart={host.layout.emperor}/venv-1/bin/uwsgi ")
    assert "app=api --set-placeholder instance=1 " in start


def test_a_file_that_was_replaced_is_named(host: AppHost, monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    process = place / "proc"
    process.mkdir()
    (process / "cgroup").write_text("0::/apps.slice/apps-api.slice/uwsgi-emperor@api-1.service\n")
    (process / "maps").write_text(
        "7f-7f r-xp 0 0 1 /usr/lib/libssl.so.3 (deleted)\n7f-7f rw-s 0 0 1 /dev/zero (deleted)\n7f-7f r-xp 0 0 1 /usr/lib/libc.so.6\n"
    )
    monkeypatch.setattr(emperors, "_processes", lambda _: [process])
    assert emperors.outdated(host, Emperor("api", 1), MANIFEST) == [
        "it runs with /usr/lib/libssl.so.3, which was replaced"
    ]
    assert emperors.replaced_files(host, Emperor("api", 2)) == set(), "another instance's"


def test_an_instance_ends_with_its_last_slot(host: AppHost, asked: list[tuple[str, ...]]) -> None:
    put_release(host, "1-a")
    slot = put_slot(host, "1-a", 1)
    second = put_emperor(host)
    assert emperors.retire_idle(host) == [second.unit]
    assert host.emperors() == [Emperor("api", 1)]
    host.vassal(slot, Emperor("api", 1)).unlink()
    assert emperors.retire_idle(host) == ["uwsgi-emperor@api-1.service"]
    assert ("disable", "--now", "--no-block", "--quiet", "uwsgi-emperor@api-1.service") in asked
    assert (host.emperors(), list(host.layout.units.glob("*.d"))) == ([], [])
    assert host.next_emperor() == Emperor("api", 3), "one that ends may still be there"


def test_a_uwsgi_that_no_instance_starts_is_removed(host: AppHost) -> None:
    old, new = host.layout.emperor / "venv-1", another_uwsgi(host)
    put_release(host, "1-a")
    put_slot(host, "1-a", 1)
    put_emperor(host)
    emperors.retire_idle(host)
    assert (old.exists(), new.exists()) == (True, True)
    for path in host.vassals(Emperor("api", 1)).iterdir():
        path.unlink()
    emperors.retire_idle(host)
    assert (old.exists(), new.exists()) == (False, True)


def test_an_instance_that_does_not_start_leaves_nothing(host: AppHost, monkeypatch: pytest.MonkeyPatch) -> None:
    another_uwsgi(host)

    def refuse(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(arguments, int(arguments[0] == "enable"), "", "no such user")

    monkeypatch.setattr(emperors, "_systemctl", refuse)
    with pytest.raises(ReleaseError, match=r"uwsgi-emperor@api-2.service does not start: no such user"):
        emperors.ensure(host, MANIFEST)
    assert host.emperors() == [Emperor("api", 1)]


@pytest.mark.parametrize("missing", ["unit", "settings", "directory"])
def test_a_host_that_was_provisioned_before_is_told_apart(host: AppHost, missing: str) -> None:
    emperors._end(host, Emperor("api", 1))
    if missing == "directory":
        (host.layout.vassals / "api").rmdir()
    else:
        place = {"unit": host.layout.units / "uwsgi-emperor@.service", "settings": host.layout.emperor / "emperor.ini"}
        place[missing].unlink()
    with pytest.raises(ReleaseError, match=r"was not provisioned for apps with an Emperor each\. Run playbooks/deploy"):
        emperors.ensure(host, MANIFEST)


def test_the_shared_emperor_ends_when_no_app_needs_it_any_more(host: AppHost, asked: list[tuple[str, ...]]) -> None:
    shared = Emperor("api", 0)
    host.vassals(shared).mkdir()
    for path in (
        host.layout.units / shared.unit,
        host.layout.vassals / "emperor.ini",
        host.layout.emperor / "vassal-wrapper",
    ):
        path.touch()
    put_release(host, "1-a")
    (host.vassals(shared) / "api.1-a.1.ini").symlink_to(host.release_dir("1-a") / "vassal.ini")
    (host.vassals(shared) / "other.1-a.1.ini").symlink_to(host.release_dir("1-a") / "vassal.ini")
    [slot] = host.slots()
    assert host.emperor_of(slot) == shared
    assert emperors.outdated(host, shared, MANIFEST) == ["it runs under the Emperor that all apps of the host share"]
    assert emperors.ensure(host, MANIFEST).number
    for name in ("api", "other"):
        emperors.retire_idle(host)
        assert ("disable", "--now", "--no-block", "--quiet", "uwsgi-emperor.service") not in asked
        (host.vassals(shared) / f"{name}.1-a.1.ini").unlink()
    assert "uwsgi-emperor.service" in emperors.retire_idle(host)
    assert ("disable", "--now", "--no-block", "--quiet", "uwsgi-emperor.service") in asked
    assert not host.vassals(shared).exists()
    assert not (host.layout.emperor / "vassal-wrapper").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs processes of two users")
@pytest.mark.parametrize("whose", ["the app's", "another's"])
def test_a_signal_goes_to_the_apps_own_processes_only(host: AppHost, whose: str) -> None:
    """The app runs its Emperor, so it can make the Emperor name any process."""
    os.chown(host.run_dir, 4242, 4242)
    command = ["sleep", "60"]  # a virtualenv's Python may be nobody else's
    with subprocess.Popen(command, user=4242 if whose == "the app's" else 0) as process:
        emperors.signal_process(host, Emperor("api", 1), process.pid, signal.SIGKILL)
        try:
            ended = process.wait(5 if whose == "the app's" else 0.5)
        except subprocess.TimeoutExpired:
            ended = None
        process.kill()
    assert ended == (-signal.SIGKILL if whose == "the app's" else None)


def test_a_process_that_is_no_process_is_no_harm(host: AppHost) -> None:
    for pid in (2**22 + 1, 2**70):
        emperors.signal_process(host, Emperor("api", 1), pid, signal.SIGKILL)


def test_what_a_release_may_do_is_another_instance(host: AppHost) -> None:
    loose = manifest_of("2-b")
    loose["settings"]["sandbox"] = {"write_execute": True, "loosened": {"ProcSubset": "psutil"}}
    second = emperors.ensure(host, loose)
    assert second == Emperor("api", 2)
    written = host.drop_in(second).read_text(encoding="utf-8")
    assert {"MemoryDenyWriteExecute=no", "ProcSubset=all"} <= set(written.splitlines())
    assert emperors.ensure(host, MANIFEST).number == 1, "a rollback is as tight as the release was"
