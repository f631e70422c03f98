"""Locked requirements and the wheels for them: from an index that is a directory of tiny wheels."""

import os
import shutil
import tarfile
from pathlib import Path

import pytest
from wheel import make_wheel, sha256

from praetor.build import cache as caches
from praetor.build import debian, indexes
from praetor.build.cache import Wheel, keep, place_of
from praetor.build.indexes import Indexes
from praetor.build.requirements import Requirement, applies, parsed
from praetor.build.systems import SYSTEMS
from praetor.build.wheels import content_digest, fetch, made_of_source, own_file
from praetor.host.layout import ReleaseError


@pytest.fixture
def index(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a directory of wheels that is the only index."""
    found = place / "index"
    found.mkdir()
    for name in [name for name in os.environ if name.startswith(("PIP_", "UV_"))]:
        monkeypatch.delenv(name)
    for name, value in {
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_NO_INDEX": "1",
        "PIP_FIND_LINKS": str(found),
        "UV_NO_CONFIG": "1",
        "UV_NO_INDEX": "1",
        "UV_FIND_LINKS": str(found),
        "UV_CACHE_DIR": str(place / "uv"),
    }.items():
        monkeypatch.setenv(name, value)
    return found


def pinned(path: Path, marker: str = "") -> Requirement:
    """The locked line of a wheel."""
    name, version = path.name.split("-")[:2]
    return Requirement(f"{name}=={version}{' ; ' + marker if marker else ''}", (f"sha256:{sha256(path)}",))


def test_requirements_are_read_with_their_hashes() -> None:
    text = """# a comment
--index-url x
Flask_Thing[async]==1.0 ; python_version < "3.12" \\
    --hash=sha256:aa \\
    --hash=sha256:bb   # why
    # via something
other==2.0 --hash=sha256:cc
"""
    first, second = parsed(text)
    assert first == Requirement('Flask_Thing[async]==1.0 ; python_version < "3.12"', ("sha256:aa", "sha256:bb"))
    assert (first.name, second.name) == ("flask-thing", "other")
    assert first.locked
    assert second.locked


@pytest.mark.parametrize(
    ("marker", "on_311", "on_313"),
    [
        ("", True, True),
        ('python_version < "3.12"', True, False),
        ('sys_platform == "win32"', False, False),
        ('platform_machine == "x86_64" and implementation_name == "cpython"', True, True),
        # redis asks this; Debian 12 has 3.11.2.
        ('python_full_version < "3.11.3"', True, False),
        ('python_full_version >= "3.11.1"', True, True),
        ('extra == "dev"', False, False),
    ],
)
def test_a_marker_is_judged_for_each_python(marker: str, on_311: bool, on_313: bool) -> None:  # noqa: FBT001
    requirement = Requirement(f"a==1{' ; ' + marker if marker else ''}", ())
    assert (applies(requirement, "cp311"), applies(requirement, "cp313")) == (on_311, on_313)


@pytest.mark.parametrize(
    ("marker", "on_x86", "on_arm"),
    [
        ('platform_machine == "aarch64"', False, True),
        ('platform_machine != "arm64" and os_name == "posix"', True, True),
    ],
)
def test_a_marker_is_judged_for_each_processor(marker: str, on_x86: bool, on_arm: bool) -> None:  # noqa: FBT001
    requirement = Requirement(f"a==1 ; {marker}")
    assert (applies(requirement, "cp313"), applies(requirement, "cp313-aarch64")) == (on_x86, on_arm)


@pytest.mark.parametrize(
    ("built_for", "systems"),
    [
        ("cp313-cp313-manylinux_2_39_x86_64", {"cp313"}),
        ("cp313-cp313-manylinux_2_39_aarch64", {"cp313-aarch64"}),
        ("cp311-cp311-manylinux2014_aarch64", {"cp311-aarch64"}),
        ("cp38-abi3-manylinux_2_17_aarch64.manylinux2014_aarch64", {"cp311-aarch64", "cp313-aarch64"}),
        ("cp313-cp313-manylinux_2_42_x86_64", set()),
        ("cp313-cp313-musllinux_1_2_aarch64", set()),
        ("py3-none-any", set(SYSTEMS)),
    ],
)
def test_a_wheel_fits_the_systems_that_it_was_built_for(place: Path, built_for: str, systems: set[str]) -> None:
    wheel = make_wheel(place, "thing", tag=built_for)
    lying = Requirement(f"./{wheel.name}", base=place)
    if systems:
        assert own_file(lying, sorted(systems), place / "cache").keys() == systems
    if unfit := set(SYSTEMS) - systems:
        with pytest.raises(ReleaseError, match=f"does not fit {SYSTEMS[min(unfit)]}"):
            own_file(lying, sorted(unfit), place / "cache")


def test_an_index_is_asked_for_the_wheels_of_a_processor(index: Path, place: Path) -> None:
    mine = make_wheel(index, "mine", tag="cp313-cp313-manylinux_2_39_aarch64")
    other = make_wheel(index, "other", tag="cp313-cp313-manylinux_2_39_x86_64")
    found, lacking = fetch([pinned(mine), pinned(other)], "cp313-aarch64", None, place / "cache")
    assert ([each.file for each in found], [each.name for each in lacking]) == ([mine.name], ["other"])


def fetched(locked: list[Requirement], place: Path) -> list[Wheel]:
    """The wheels for Debian 12, all of which there are."""
    found, lacking = fetch(locked, "cp311", None, place / "cache")
    assert not lacking
    return found


def test_wheels_are_fetched_for_their_python_and_kept(index: Path, place: Path) -> None:
    both = make_wheel(index, "tiny")
    old = make_wheel(index, "oldie", tag="cp311-cp311-manylinux_2_28_x86_64")
    late = make_wheel(index, "late", tag="cp38-abi3-manylinux2014_x86_64")
    locked = [pinned(both), pinned(old, 'python_version < "3.12"'), pinned(late)]
    found = fetched(locked, place)
    assert [wheel.name for wheel in found] == ["late", "oldie", "tiny"]
    assert [wheel.version for wheel in found] == ["1.0"] * 3
    for wheel in found:
        assert sha256(place_of(wheel, place / "cache")) == wheel.sha256
    # What is gone from the cache comes from the index again, and nothing else does.
    place_of(found[0], place / "cache").unlink()
    assert fetched(locked, place) == found
    for path in index.iterdir():
        path.unlink()
    assert fetched(list(reversed(locked)), place) == found


def test_all_requirements_without_a_wheel_are_found_in_one_run(index: Path, place: Path) -> None:
    there = pinned(make_wheel(index, "tiny"))
    without = [
        pinned(make_wheel(index, name, tag="cp311-cp311-manylinux_2_39_x86_64")) for name in ("newer", "also_newer")
    ]
    found, lacking = fetch([without[0], there, without[1]], "cp311", None, place / "cache")
    assert [wheel.name for wheel in found] == ["tiny"]
    assert {each.name for each in lacking} == {"newer", "also-newer"}


def test_what_no_index_has_is_not_called_a_missing_wheel(index: Path, place: Path) -> None:
    make_wheel(index, "tiny")
    make_wheel(index, "tiny", "1.1")
    with pytest.raises(ReleaseError, match="no-such-thing is at none of the package indexes") as caught:
        fetch([Requirement("no-such-thing==1.0", ("sha256:" + "0" * 64,))], "cp311", None, place / "cache")
    assert "wheel" not in str(caught.value)
    with pytest.raises(ReleaseError, match=r"tiny==2\.0: .* do not have this version; the newest there: 1\.1, 1\.0"):
        fetch([Requirement("tiny==2.0", ("sha256:" + "0" * 64,))], "cp311", None, place / "cache")


def test_a_wheel_with_another_content_is_refused(index: Path, place: Path) -> None:
    make_wheel(index, "tiny")
    with pytest.raises(ReleaseError, match=r"(?s)cannot download the wheels for Python 3\.11.*HASH"):
        fetch([Requirement("tiny==1.0", ("sha256:" + "0" * 64,))], "cp311", None, place / "cache")


@pytest.mark.usefixtures("index")
def test_an_index_that_does_not_answer_is_not_a_missing_wheel(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "0")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("PIP_RETRIES", "1")
    monkeypatch.setenv("no_proxy", "*")
    with pytest.raises(ReleaseError, match="cannot download the wheels") as caught:
        fetch([Requirement("tiny==1.0", ("sha256:" + "0" * 64,))], "cp311", None, place / "cache")
    assert "has no wheel" not in str(caught.value)


def test_a_wheel_is_kept_whole_or_not_at_all(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make_wheel(place / "built", "tiny")

    def killed(_: object, target: Path) -> None:
        Path(target).write_bytes(b"half")
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(shutil, "copyfile", killed)
        with pytest.raises(KeyboardInterrupt):
            keep(path, place / "cache")
    assert not list((place / "cache").rglob("*.whl"))
    assert sha256(place_of(keep(path, place / "cache"), place / "cache")) == sha256(path)


def test_two_builds_at_once_write_the_same_file(place: Path) -> None:
    target = place / "cache" / "x.json"
    errors: list[BaseException] = []

    def write() -> None:
        try:
            for _ in range(50):
                caches.write(target, "text")
        except OSError as error:
            errors.append(error)

    children = []
    for _ in range(3):
        child = os.fork()
        if child == 0:
            write()
            os._exit(1 if errors else 0)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0, 0]
    assert [path.name for path in target.parent.iterdir()] == ["x.json"]


def test_the_content_of_a_wheel_is_what_it_installs(place: Path) -> None:
    one = make_wheel(place / "a", "tiny", files={"a.py": "1", "b.py": "2"})
    other = make_wheel(place / "b", "tiny", files={"b.py": "2", "a.py": "1"})
    changed = make_wheel(place / "c", "tiny", files={"a.py": "1", "b.py": "3"})
    assert sha256(one) != sha256(other)
    assert content_digest(one) == content_digest(other)
    assert content_digest(one) != content_digest(changed)


# A build backend that needs nothing: it zips two files. The tag of its wheel is in the name of the module.
BACKEND = """
import os, zipfile
def build_wheel(directory, config_settings=None, metadata_directory=None):
    name = "sourced-1.0-{tag}.whl"
    with zipfile.ZipFile(os.path.join(directory, name), "w") as archive:
        archive.writestr("sourced.py", "VALUE = 1")
        archive.writestr("sourced-1.0.dist-info/METADATA", "Metadata-Version: 2.1\\nName: sourced\\nVersion: 1.0\\n")
        archive.writestr("sourced-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\\nTag: {tag}\\n")
        archive.writestr("sourced-1.0.dist-info/RECORD", "")
    return name
"""


def make_sdist(index: Path, tag: str, build_needs: str = "") -> Requirement:
    """Publish a source distribution that builds a wheel with this tag."""
    tree = index / "sourced-1.0"
    tree.mkdir()
    (tree / "pyproject.toml").write_text(
        f'[build-system]\nrequires = [{build_needs}]\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    )
    (tree / "backend.py").write_text(BACKEND.format(tag=tag))
    (tree / "PKG-INFO").write_text("Metadata-Version: 2.1\nName: sourced\nVersion: 1.0\n")
    path = index / "sourced-1.0.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        archive.add(tree, arcname=tree.name)
    shutil.rmtree(tree)
    return Requirement("sourced==1.0", (f"sha256:{sha256(path)}",))


def made(requirement: Requirement, place: Path) -> dict[str, Wheel]:
    """What is made of a source for both Debians."""
    return made_of_source(requirement, ["cp311", "cp313"], indexes.known(None, Indexes()), [], place / "cache")


def test_a_package_that_is_published_as_source_is_built_once_for_all(index: Path, place: Path) -> None:
    requirement = make_sdist(index, "py3-none-any")
    assert fetch([requirement], "cp311", None, place / "cache") == ([], [requirement])
    built = made(requirement, place)
    assert built["cp311"] == built["cp313"]
    assert built["cp311"].file == "sourced-1.0-py3-none-any.whl"
    (index / "sourced-1.0.tar.gz").unlink()
    assert made(requirement, place) == built


def test_what_building_takes_may_be_published_as_wheels_only(index: Path, place: Path) -> None:
    make_wheel(index, "mason", "1.0")
    requirement = make_sdist(index, "py3-none-any", '"mason"')
    assert made(requirement, place)["cp311"].file == "sourced-1.0-py3-none-any.whl"


def test_what_compiles_says_what_the_controller_lacks(
    index: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    requirement = make_sdist(index, "cp311-cp311-linux_x86_64")
    monkeypatch.setattr(debian, "BASES", place / "none")
    with pytest.raises(ReleaseError, match=r"(?s)sourced compiles something.*lacks a tree of bookworm .*make lab"):
        made(requirement, place)


def test_a_source_with_another_content_is_refused(index: Path, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_sdist(index, "py3-none-any")
    monkeypatch.setattr(debian, "BASES", place / "none")
    with pytest.raises(ReleaseError, match=r"(?s)cannot build a wheel of sourced==1.0.*HASH"):
        made(Requirement("sourced==1.0", ("sha256:" + "0" * 64,)), place)


def test_an_index_on_disk_is_brought_into_a_clean_tree_with_the_files_that_its_pages_lead_to(place: Path) -> None:
    for name in ("mirror/simple", "mirror/files", "house"):
        (place / name).mkdir(parents=True)
    given = Indexes(default=f"file://{place}/mirror/simple/", find_links=[str(place / "house"), str(place / "gone")])
    assert given.places() == [place / "mirror", place / "house"]
