"""Stage: what reaches a host is what was built, runs nothing as root, and a failure leaves nothing."""

import errno
import grp
import io
import json
import os
import pwd
import re
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fakes import manifest_of, put_release
from wheel import make_wheel, sha256

from praetor.host import copies
from praetor.host import stage as stages
from praetor.host.full import FullError
from praetor.host.gate import wait_until
from praetor.host.layout import AppHost, ReleaseError, remove, write_atomically
from praetor.host.stage import environment, files_of, missing, run_command, stage
from praetor.run.owner import process_start

TAG = stages.python_tag()
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="a host's files belong to root and to the app's user")
PARTS: Any = {
    "vassal": "[uwsgi]\n",
    "site": "server {}\n",
    "slot": {"wsgi.py": "application = 1\n"},
    "units": {"worker@.service": "[Service]\n"},
    "config": "{}\n",
    "sbom": "{}\n",
    "env": {"APP_NAME": "api", "GREETING": "a 'b' \"c\" $HOME\nd\n"},
    "secrets": {"TOKEN": "s3cret"},
}


@pytest.fixture(autouse=True)
def user(monkeypatch: pytest.MonkeyPatch) -> pwd.struct_passwd:
    """Return the app's user: one that every Debian has."""
    found = pwd.getpwnam("nobody") if os.geteuid() == 0 else pwd.getpwuid(os.getuid())
    monkeypatch.setattr(stages, "user_of", lambda _: found)
    return found


@pytest.fixture
def open_place(place: Path) -> Path:
    """Let the app's user enter the directory of the test."""
    place.chmod(0o755)
    return place


def entry(path: Path) -> Any:
    """A wheel in a manifest."""
    name, version = path.name.split("-")[:2]
    return {"name": name, "version": version, "file": path.name, "sha256": sha256(path), "path": str(path)}


def pack(files: dict[str, Path]) -> io.BytesIO:
    """What the action plugin brings."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, file in files.items():
            archive.add(file, arcname=name)
    packed.seek(0)
    return packed


def with_uv(host: AppHost) -> None:
    """Give the host the uv of the tests' virtualenv."""
    (host.layout.emperor / "venv/bin").mkdir(parents=True)
    (host.layout.emperor / "venv/bin/uv").symlink_to(Path(sys.prefix) / "bin/uv")


def release_of(*wheels: Path, tree: Path | None = None) -> Any:
    """The manifest of a release for this Python."""
    packed = {"digest": "d", "sha256": sha256(tree), "file": tree.name, "path": str(tree)} if tree else None
    return manifest_of("1-a", wheels={TAG: [entry(wheel) for wheel in wheels]}, tree=packed)


def send(host: AppHost, manifest: Any, checks: list[list[str]] | None = None, **parts: Any) -> bool:
    """Stage a release with all its files."""
    found: Any = files_of(manifest, TAG)
    files = {each["sha256"]: Path(each["path"]) for each in found}
    content: Any = {**PARTS, **parts}
    return stage(host, manifest, content, pack(files), checks or [])


@AS_ROOT
def test_who_may_reach_an_app_is_for_nginx_to_read_and_not_for_the_app(
    host: AppHost, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_uv(host)
    manifest = release_of(make_wheel(place, "tiny", "1.0"))
    manifest["settings"]["http"] = {"access": {"users": "USERS", "authority": "PEM"}}
    assert send(host, manifest, secrets={"USERS": "anna:hash", "TOKEN": "s3cret"})
    kept = host.access / "1-a"
    assert (kept / "users").read_text(encoding="utf-8") == "anna:hash\n"
    assert (kept / "authority.pem").read_text(encoding="utf-8") == "PEM"
    assert [path.stat().st_mode & 0o7777 for path in (host.access, kept, kept / "users")] == [0o750, 0o750, 0o640]
    assert {path.stat().st_gid for path in (kept, kept / "users")} == {grp.getgrnam("www-data").gr_gid}
    assert [path.name for path in (host.release_dir("1-a") / "secrets").iterdir()] == ["TOKEN"]
    # Another host gets it from this one as a secret again, and it goes when the release goes.
    monkeypatch.setattr(copies, "AppHost", lambda _: host)
    assert copies.work(app="api", release="1-a")["secrets"] == {"USERS": "anna:hash\n", "TOKEN": "s3cret"}
    assert kept not in host.leftovers()
    remove(host.release_dir("1-a"))
    assert kept in host.leftovers()


def test_the_files_of_an_artifact_are_its_wheels_and_its_tree() -> None:
    manifest = manifest_of("1-a", wheels={"cp311": [{"file": "a"}], "cp313": [{"file": "b"}]}, tree={"file": "t"})
    assert [each["file"] for each in files_of(manifest, "cp313")] == ["b", "t"]
    with pytest.raises(ReleaseError, match=r"api 1 was built for cp311, cp313; this host has cp39"):
        files_of(manifest, "cp39")


def test_only_what_a_host_does_not_have_is_missing(host: AppHost) -> None:
    wheels = {
        TAG: [{"file": "a.whl", "sha256": "aa"}, {"file": "b.whl", "sha256": "bb"}, {"file": "c.whl", "sha256": "bb"}]
    }
    manifest = manifest_of("1-a", wheels=wheels)
    assert missing(host, manifest) == ["aa", "bb"]
    (host.wheels / "aa").mkdir(parents=True)
    assert missing(host, manifest) == ["aa", "bb"]
    (host.wheels / "aa" / "a.whl").touch()
    assert missing(host, manifest) == ["bb"]


@AS_ROOT
def test_a_release_is_staged_whole(host: AppHost, open_place: Path) -> None:
    with_uv(host)
    wheel = make_wheel(open_place / "built", "tiny", "2.0")
    manifest = release_of(wheel)
    assert send(host, manifest, [["python", "-c", "import tiny, os; assert os.environ['TOKEN'] == 's3cret'"]])
    place = host.release_dir("1-a")
    assert host.manifest("1-a") == manifest
    assert host.leftovers() == []
    assert (place / "env/GREETING").read_text(encoding="utf-8") == PARTS["env"]["GREETING"]
    assert place.stat().st_mode & 0o7777 == 0o750
    assert (place / "secrets/TOKEN").stat().st_mode & 0o7777 == 0o440
    assert (place / "slot/praetor_slot/wsgi.py").read_text(encoding="utf-8") == "application = 1\n"
    assert (place / "vassal.ini").stat().st_mtime < time.time() - 5
    assert list(place.glob("venv/lib/*/site-packages/__pycache__/tiny.*.pyc"))
    # Nothing that the app could write to.
    owners = {path.lstat().st_uid for path in place.rglob("*")}
    assert owners == {0}
    assert "s3cret" not in (place / "release.json").read_text(encoding="utf-8")
    assert stage(host, manifest, PARTS, None, []) is False


@AS_ROOT
def test_what_is_copied_off_a_host_is_what_was_staged(
    host: AppHost, open_place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_uv(host)
    manifest = release_of(make_wheel(open_place / "built", "tiny", "2.0"))
    send(host, manifest)
    monkeypatch.setattr(copies, "AppHost", lambda _: host)
    found: Any = copies.work(app="api", release="1-a")
    assert found["manifest"] == manifest
    assert {**found["parts"], "secrets": found["secrets"]} == PARTS


@AS_ROOT
def test_no_code_of_a_release_runs_as_root(host: AppHost, open_place: Path) -> None:
    with_uv(host)
    trace = open_place / "trace"
    trace.mkdir(mode=0o777)
    trace.chmod(0o777)
    line = f"import os; open({str(trace)!r} + '/' + str(os.getuid()), 'a').close()\n"
    wheel = make_wheel(open_place / "built", "sly", files={"sly.pth": line, "sly.py": "X = 1\n"})
    tree = open_place / "tree.tar"
    with tarfile.open(tree, "w") as archive:
        put(archive, "app.py", "import sly\n")
    send(host, release_of(wheel, tree=tree), [["python", "-c", "import app"]])
    assert list(host.release_dir("1-a").glob("src/__pycache__/app.*.pyc"))
    assert [path.name for path in trace.iterdir()] == [str(pwd.getpwnam("nobody").pw_uid)]


def next_release(manifest: Any, *wheels: Path) -> Any:
    """The manifest of a release with more wheels."""
    return manifest | {"id": "2-b", "wheels": {TAG: [*manifest["wheels"][TAG], *(entry(wheel) for wheel in wheels)]}}


@AS_ROOT
def test_a_package_that_the_newest_release_has_is_linked(
    host: AppHost, open_place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A host runs the engine by the Python that compiles; here that may be another than the one of the tests.
    asked = ["/usr/bin/python3", "-c", "import sys; print(sys.implementation.cache_tag)"]
    tag = subprocess.run(asked, check=True, capture_output=True, text=True).stdout.strip()
    monkeypatch.setattr(sys.implementation, "cache_tag", tag)
    with_uv(host)
    (open_place / "trace").mkdir()
    (open_place / "trace").chmod(0o777)
    line = f"import os; open({str(open_place / 'trace')!r} + '/' + str(os.getuid()), 'a').close()\n"
    script = "[console_scripts]\nshout = tiny:shout\n"
    tiny = make_wheel(
        open_place / "built",
        "tiny",
        files={
            "tiny.py": "def shout():\n    print('HEY')\n",
            "sub/deep.py": "",
            "tiny.pth": line,
            "tiny-1.0.dist-info/entry_points.txt": script,
        },
        listed="../../../../stolen",  # its author may list what he likes
    )
    manifest = release_of(tiny)
    send(host, manifest)
    (host.release_dir("1-a") / "stolen").touch()
    more = make_wheel(open_place / "built", "more")
    send(host, next_release(manifest, more), [["shout"], ["python", "-c", "import tiny, more, sub.deep"]])
    old, new = (
        {path.relative_to(place): path for path in place.rglob("venv/lib/**/*")}
        for place in map(host.release_dir, ("1-a", "2-b"))
    )
    linked = [name for name in old if old[name].is_file() and old[name].samefile(new[name])]
    assert {"tiny.py", "deep.py", "tiny.pth", "RECORD"} <= {path.name for path in linked}
    assert [path for path in linked if path.suffix == ".pyc"]
    assert str(host.release_dir("2-b")) in (host.release_dir("2-b") / "venv/bin/shout").read_text(encoding="utf-8")
    assert not (host.release_dir("2-b") / "stolen").exists()
    assert [path.name for path in (open_place / "trace").iterdir()] == [str(pwd.getpwnam("nobody").pw_uid)]
    # The older one can go.
    remove(host.release_dir("1-a"))
    assert run_command(host, "2-b", ["shout"], 10) == "HEY\n"


def test_nothing_is_linked_outside_the_virtualenv(place: Path) -> None:
    (place / "old").touch()
    for target in (place / "venv/../secrets/new", place / "new"):
        stages._link(str(place / "old"), os.path.normpath(target), place / "venv")
    stages._link(str(place / "old"), str(place / "venv/lib/new"), place / "venv")
    assert [path.relative_to(place).as_posix() for path in place.rglob("new")] == ["venv/lib/new"]


@AS_ROOT
def test_a_check_that_fails_leaves_nothing_and_shows_what_it_said(host: AppHost, open_place: Path) -> None:
    with_uv(host)
    command = ["python", "-c", "print('no such key: colour'); raise SystemExit(3)"]
    with pytest.raises(ReleaseError, match=r"failed with exit status 3:\nno such key: colour"):
        send(host, release_of(make_wheel(open_place / "built", "tiny")), [command])
    assert not host.release_dir("1-a").exists()


def test_a_host_without_uv_is_told_to_be_provisioned(host: AppHost) -> None:
    with pytest.raises(ReleaseError, match="it was not provisioned"):
        send(host, release_of())
    assert not host.release_dir("1-a").exists()


def test_a_file_that_arrives_damaged_is_refused_and_not_kept(host: AppHost, place: Path) -> None:
    wheel, other = make_wheel(place / "built", "tiny"), make_wheel(place / "built", "other")
    with pytest.raises(
        ReleaseError, match=r"tiny-1\.0-py3-none-any\.whl arrived damaged: SHA-256 is .*Nothing was changed"
    ):
        stage(host, release_of(wheel), PARTS, pack({sha256(wheel): other}), [])
    assert list(host.wheels.iterdir()) == []


def test_a_file_that_nobody_asked_for_is_not_kept(host: AppHost, place: Path) -> None:
    other = make_wheel(place / "built", "other")
    with pytest.raises(ReleaseError, match="not provisioned"):
        stage(host, release_of(), PARTS, pack({sha256(other): other, "../../evil": other}), [])
    assert list(host.wheels.iterdir()) == []


@pytest.mark.parametrize("kept", [0, 300, 700])
def test_an_upload_that_was_cut_short_is_damaged(host: AppHost, place: Path, kept: int) -> None:
    wheel = make_wheel(place / "built", "tiny")
    upload = io.BytesIO(pack({sha256(wheel): wheel}).getvalue()[:kept])
    with pytest.raises(ReleaseError, match="arrived damaged"):
        stage(host, release_of(wheel), PARTS, upload, [])


def test_a_damaged_file_of_the_hosts_cache_is_removed(host: AppHost, place: Path) -> None:
    with_uv(host)
    wheel = make_wheel(place / "built", "tiny")
    kept = host.wheels / sha256(wheel) / wheel.name
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"rotten")
    with pytest.raises(ReleaseError, match=r"cache is damaged and was removed; run again to send it again"):
        stage(host, release_of(wheel), PARTS, None, [])
    assert not kept.parent.exists()
    with pytest.raises(ReleaseError, match=r"is gone from this host's cache; nothing was changed, run again"):
        stage(host, release_of(wheel), PARTS, None, [])


def fail_with(code: int) -> Callable[..., None]:
    def fail(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    return fail


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("where", ["_store", "_virtualenv", "_settings"])
def test_a_full_disk_leaves_nothing_and_says_what_to_do(
    host: AppHost, place: Path, monkeypatch: pytest.MonkeyPatch, where: str, code: int
) -> None:
    for step in ("_virtualenv", "_tree", "_settings"):
        monkeypatch.setattr(stages, step, lambda *_: None)
    target = "write_atomically" if where == "_store" else where
    monkeypatch.setattr(stages, target, fail_with(code))
    with pytest.raises(FullError, match=r"no space left on the file system of .* goes on serving"):
        send(host, release_of(make_wheel(place / "built", "tiny")))
    assert list(host.releases_dir.iterdir()) == []


def test_a_full_inode_table_is_called_by_its_name(host: AppHost, monkeypatch: pytest.MonkeyPatch) -> None:
    found = os.statvfs(host.root)
    none_left = os.statvfs_result([*found[:5], 100, 0, 0, *found[8:]])
    monkeypatch.setattr(os, "statvfs", lambda _: none_left)
    assert str(FullError(host.root, "storing wheels")).startswith("no inodes left")


def test_what_uv_says_of_a_full_disk_is_a_full_disk(host: AppHost) -> None:
    command = [sys.executable, "-c", "raise SystemExit('failed: No space left on device (os error 28)')"]
    with pytest.raises(OSError, match="no space left") as caught:
        stages._uv(command, host)
    assert caught.value.errno == errno.ENOSPC
    with pytest.raises(ReleaseError, match=r"virtualenv cannot be made:\nfailed"):
        stages._uv([sys.executable, "-c", "raise SystemExit('failed')"], host)


def test_another_error_leaves_nothing_either(host: AppHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages, "_virtualenv", fail_with(errno.EIO))
    with pytest.raises(OSError, match="Input/output"):
        send(host, release_of())
    assert list(host.releases_dir.iterdir()) == []


def test_a_half_staged_release_is_staged_anew(host: AppHost, monkeypatch: pytest.MonkeyPatch) -> None:
    for step in ("_virtualenv", "_tree", "_settings"):
        monkeypatch.setattr(stages, step, lambda *_: None)
    (host.release_dir("1-a") / "venv").mkdir(parents=True)
    assert send(host, release_of()) is True
    assert [path.name for path in host.release_dir("1-a").iterdir()] == ["release.json"]


def put(archive: tarfile.TarFile, name: str, content: str = "", mode: int = 0o644, link: str = "") -> None:
    member = tarfile.TarInfo(name)
    member.mode, member.size = mode, len(content)
    if link:
        member.type, member.linkname = tarfile.SYMTYPE, link
    archive.addfile(member, io.BytesIO(content.encode()))


def unpack(place: Path, *members: tuple[str, dict[str, Any]]) -> Path:
    """Unpack a project's tree; the directory that it is in."""
    packed, target = place / "tree.tar", place / "src"
    remove(target)
    target.mkdir()
    with tarfile.open(packed, "w") as archive:
        for name, options in members:
            put(archive, name, **options)
    with tarfile.open(packed) as archive:
        for member in archive:
            stages.unpack(archive, member, target)
    return target


def test_a_tree_is_unpacked_with_its_links_and_programs(place: Path) -> None:
    target = unpack(
        place,
        ("a/b/run", {"content": "#!", "mode": 0o4777}),
        ("a/file", {"content": "text", "mode": 0o600}),
        ("link", {"link": "a/file"}),
        ("a/up", {"link": "../link"}),
        ("folder", {"link": "a"}),
    )
    assert (target / "a/b/run").stat().st_mode & 0o7777 == 0o755
    assert (target / "a/file").stat().st_mode & 0o7777 == 0o644
    assert (target / "a/up").read_text(encoding="utf-8") == "text"
    assert (target / "folder/file").read_text(encoding="utf-8") == "text"


@pytest.mark.parametrize(
    "members",
    [
        [("../evil", {})],
        [("a/../../evil", {})],
        [("a/../fine", {})],
        [("/tmp/evil", {})],  # noqa: S108  what an attacker would write
        [("evil", {"link": "/etc"})],
        [("evil", {"link": "../outside"})],
        # Each name lies inside; where the links lead does not.
        [("x/y/s", {"link": "../.."}), ("evil", {"link": "x/y/s/../outside"})],
        [("x/y/s", {"link": "../.."}), ("x/y/s/../../evil", {})],
        [("a", {"link": "b"}), ("b", {"link": "../outside"}), ("a", {"content": "x"})],
    ],
)
def test_nothing_leaves_the_tree(place: Path, members: list[tuple[str, dict[str, Any]]]) -> None:
    with pytest.raises(ReleaseError, match="leads out of the project's tree; nothing was staged"):
        unpack(place, *members)
    assert not list(place.rglob("evil"))


def test_special_files_are_left_out(place: Path) -> None:
    target = place / "src"
    target.mkdir()
    member = tarfile.TarInfo("pipe")
    member.type = tarfile.FIFOTYPE
    with tarfile.open(place / "tree.tar", "w") as archive:
        archive.addfile(member)
        stages.unpack(archive, member, target)
    assert list(target.iterdir()) == []


def staged(host: AppHost) -> None:
    """A release without a virtualenv, to run commands from."""
    put_release(host, "1-a")
    for name in ("src", "env", "secrets"):
        (host.release_dir("1-a") / name).mkdir()


def test_the_environment_is_the_apps_own(
    host: AppHost, user: pwd.struct_passwd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONTROLLERS_OWN", "1")
    staged(host)
    place = host.release_dir("1-a")
    (place / "env" / "GREETING").write_text("a=b\n$HOME\n", encoding="utf-8")
    (place / "secrets" / "TOKEN").write_text("s3cret", encoding="utf-8")
    found = environment(place, user)
    assert found["GREETING"] == "a=b\n$HOME\n"
    assert found["TOKEN"] == "s3cret"  # noqa: S105  not one
    assert found["PATH"].startswith(f"{place}/venv/bin:")
    assert (found["HOME"], found["USER"]) == (user.pw_dir, user.pw_name)
    assert found["PYTHONPATH"] == f"{place}/src"
    assert "CONTROLLERS_OWN" not in found


@AS_ROOT
def test_a_command_runs_as_the_app_and_from_its_release(
    host: AppHost, open_place: Path, user: pwd.struct_passwd
) -> None:
    assert open_place
    staged(host)
    printed = run_command(host, "1-a", ["sh", "-c", "id -u; id -G; pwd; echo oops >&2"], 10)
    assert printed.split("\n") == [str(user.pw_uid), str(user.pw_gid), str(host.release_dir("1-a") / "src"), "oops", ""]


@AS_ROOT
@pytest.mark.parametrize("program", ["no-such-program", "./no-program"])
def test_a_program_that_is_not_there_is_named(host: AppHost, open_place: Path, program: str) -> None:
    assert open_place
    staged(host)
    (host.release_dir("1-a") / "src" / "no-program").touch()
    with pytest.raises(ReleaseError, match=f"no program '{program}' in the release's virtualenv or on the host"):
        run_command(host, "1-a", [program, "x"], 10)


@AS_ROOT
@pytest.mark.usefixtures("open_place")
def test_a_command_that_does_not_end_is_killed_with_its_children(host: AppHost) -> None:
    staged(host)
    # Where it has not printed its child's number in its time, it gets more.
    for patience_s in (0.4, 4, 40):
        with pytest.raises(ReleaseError, match=r"did not end within \d+ s and was killed") as caught:
            run_command(host, "1-a", ["sh", "-c", "(sleep 60; echo waited for) & echo $!; wait"], patience_s)
        if found := re.search(r"; it had printed:\n(.+)", str(caught.value), re.DOTALL):
            break
    # A child that lived on would have held the output open.
    assert found
    assert found[1].isdigit(), "its number, and not that it was waited for"
    assert wait_until(lambda: process_start(int(found[1])) is None, 60)


def test_release_json_is_written_last(host: AppHost, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for step in ("_virtualenv", "_tree"):
        monkeypatch.setattr(stages, step, lambda *_: None)
    written: list[str] = []

    def note(path: Path, *rest: Any) -> None:
        written.append(path.name)
        write_atomically(path, *rest)

    monkeypatch.setattr(stages, "write_atomically", note)
    monkeypatch.setattr(os, "chown", lambda *_: None)
    send(host, release_of())
    assert written[-1] == "release.json"
    assert json.loads((host.release_dir("1-a") / "release.json").read_text(encoding="utf-8"))["id"] == "1-a"
    assert subprocess.run(["find", place, "-name", ".tmp.*"], capture_output=True, check=True).stdout == b""


def in_data(host: AppHost, owner: pwd.struct_passwd) -> None:
    """Give the app its data directory."""
    host.data.mkdir(parents=True, exist_ok=True)
    os.chown(host.data, owner.pw_uid, owner.pw_gid)


@AS_ROOT
def test_places_that_an_app_writes_to_lie_in_its_data_and_outlive_releases(
    host: AppHost, open_place: Path, user: pwd.struct_passwd
) -> None:
    with_uv(host)
    in_data(host, user)
    tree = open_place / "tree.tar"
    with tarfile.open(tree, "w") as archive:
        put(archive, "app.db", "shipped")
        put(archive, "uploads/one.txt", "1")
    manifest = release_of(tree=tree)
    manifest["settings"]["data"] = ["instance", "logs/", "app.db", "uploads", "venv/var", "fresh.db"]
    write = (
        "import pathlib, sys; assert pathlib.Path('app.db').read_text() == sys.argv[1];"
        "[pathlib.Path(each).write_text('written') for each in"
        " ('instance/a', 'logs/b', 'app.db', 'uploads/two.txt', sys.prefix + '/var/c', 'fresh.db')]"
    )
    send(host, manifest, [["python", "-c", write, "shipped"]])
    kept = {path.relative_to(host.data).as_posix() for path in host.data.rglob("*") if path.is_file()}
    assert kept == {"instance/a", "logs/b", "app.db", "uploads/one.txt", "uploads/two.txt", "venv/var/c", "fresh.db"}
    assert {path.stat().st_uid for path in host.data.rglob("*")} == {user.pw_uid}
    # The next release finds what was written, and what it ships does not replace it.
    send(host, manifest | {"id": "2-b"}, [["python", "-c", write, "written"]])


@AS_ROOT
def test_a_link_in_an_apps_data_gives_root_no_way_out(host: AppHost, open_place: Path, user: pwd.struct_passwd) -> None:
    with_uv(host)
    in_data(host, user)
    outside = open_place / "outside"
    outside.mkdir(mode=0o700)
    (host.data / "instance").symlink_to(outside)
    tree = open_place / "tree.tar"
    with tarfile.open(tree, "w") as archive:
        put(archive, "instance/settings.py", "shipped")
    manifest = release_of(tree=tree)
    manifest["settings"]["data"] = ["instance"]
    with pytest.raises(ReleaseError, match="a place of `data` cannot be made"):
        send(host, manifest)
    assert list(outside.iterdir()) == []
    assert host.leftovers() == []


@AS_ROOT
def test_a_command_that_writes_into_its_release_is_told_which_key_helps(host: AppHost, open_place: Path) -> None:
    with_uv(host)
    tree = open_place / "tree.tar"
    with tarfile.open(tree, "w") as archive:
        put(archive, "app.py", "")
    with pytest.raises(ReleaseError, match=r"data: \[logs\]"):
        send(
            host,
            release_of(tree=tree),
            [["python", "-c", "open('logs/a.log', 'w') if 0 else __import__('os').mkdir('logs')"]],
        )
