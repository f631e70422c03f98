"""Building: the same input is the same release, anything else is another one."""

import json
import os
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from project import ROOT
from wheel import make_wheel, sha256

from praetor.build import artifacts as builds
from praetor.build import wheels
from praetor.build.artifacts import build, fingerprint, identify, recorded, sbom
from praetor.build.parts import vassal
from praetor.build.wheels import Requirement, Wheel
from praetor.host.layout import ReleaseError

TEMPLATE = ROOT / "roles/flask_app/templates/vassal.ini.j2"
LOCK = "flask==3.0 --hash=sha256:aa\n"
BACKEND = """
import zipfile
def build_wheel(directory, config_settings=None, metadata_directory=None):
    name = "own-1.5-py3-none-any.whl"
    with zipfile.ZipFile(directory + "/" + name, "w") as archive:
        archive.write("own.py")
        archive.writestr("own-1.5.dist-info/METADATA", "Metadata-Version: 2.1\\nName: own\\nVersion: 1.5\\n")
        archive.writestr("own-1.5.dist-info/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        archive.writestr("own-1.5.dist-info/RECORD", "")
    return name
"""
PYPROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
[project]
name = "own"
version = "1.5"
"""


class Workshop:
    """A project and what a controller needs to build it; wheels come out of thin air."""

    def __init__(self, place: Path) -> None:
        self.place, self.project, self.cache = place, place / "project", place / "cache"
        self.project.mkdir()
        self.put("requirements.txt", LOCK)
        self.put("main.py", "app = 1\n")
        self.server = place / "server.txt"
        self.server.write_text("pyuwsgi==2.0 --hash=sha256:bb\nuv==0.1 --hash=sha256:cc\n", encoding="utf-8")
        self.app: dict[str, Any] = {
            "name": "api",
            "source": {"path": "project"},
            "wsgi": "main:app",
            "server_names": ["api.example"],
            "profile": "prod",
            "config": {"a": 1, "b": 2},
            "env": {},
            "health": {"path": "/"},
            "workers": "auto",
            "threads": 2,
            "limits": {"request_s": 30, "body_mb": 1, "memory_mb": 512},
        }
        self.secrets: dict[str, str] = {}
        self.fetched: dict[str, list[str]] = {}

    def fetch(self, locked: list[Requirement], tag: str, cache: Path) -> list[Wheel]:
        """Stand in for the index."""
        assert cache == self.cache
        chosen = [each for each in locked if wheels.applies(each, wheels.PYTHONS[tag])]
        self.fetched[tag] = sorted(each.name for each in chosen)
        found = []
        for each in chosen:
            version = each.text.split("==")[1].split()[0]
            path = self.place / "index" / f"{each.name}-{version}-py3-none-any.whl"
            if not path.exists():
                make_wheel(path.parent, each.name, version)
            found.append(Wheel(path.name, sha256(path), str(path)))
        return found

    def put(self, name: str, text: str) -> Path:
        """Write a file of the project."""
        path = self.project / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    def git(self, *words: str) -> None:
        """Run git in the project."""
        command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main", *words]
        subprocess.run(command, cwd=self.project, check=True, capture_output=True)

    def commit(self) -> None:
        """Commit all that is there."""
        if not (self.project / ".git").exists():
            self.git("init")
        self.git("add", "-A")
        self.git("commit", "--allow-empty", "-m", "x")

    def build(self) -> dict[str, Any]:
        """Build the artifact."""
        return build(self.app, self.cache, self.place, self.server)

    def release(self) -> str:
        """Build and identify."""
        return identify(self.app, self.build(), [vassal(self.app, TEMPLATE)], self.secrets, self.cache)


@pytest.fixture
def shop(place: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    """Return a project without history."""
    found = Workshop(place)
    monkeypatch.setattr(wheels, "fetch", found.fetch)
    monkeypatch.setenv("UV_OFFLINE", "1")
    monkeypatch.setenv("UV_CACHE_DIR", str(place / "uv"))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(place))
    return found


def test_the_same_input_is_the_same_release(shop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    first = shop.release()
    for path in shop.project.iterdir():
        os.utime(path, (1, 1))
    shop.app = dict(reversed(shop.app.items()))
    shop.app["config"] = {"b": 2, "a": 1}
    # Another controller has no cache, and lists directories in another order.
    walk = os.walk
    monkeypatch.setattr(os, "walk", lambda top: ((a, b, c[::-1]) for a, b, c in walk(top)))
    shop.cache = shop.place / "another"
    assert shop.release() == first


def test_what_git_knows_besides_files_and_commit_is_not_in_a_release(shop: Workshop) -> None:
    shop.commit()
    first = shop.release()
    shop.git("branch", "other")
    shop.git("gc", "--quiet")
    shop.git("config", "user.name", "somebody")
    shop.git("commit", "--allow-empty", "-m", "nothing of the app's")
    assert shop.release() == first


def other_file(shop: Workshop) -> None:
    shop.put("main.py", "app = 2\n")


def new_file(shop: Workshop) -> None:
    shop.put("more.py", "")


def renamed_file(shop: Workshop) -> None:
    (shop.project / "main.py").rename(shop.project / "other.py")


def program(shop: Workshop) -> None:
    (shop.project / "main.py").chmod(0o755)


def other_lock(shop: Workshop) -> None:
    shop.put("requirements.txt", LOCK.replace("3.0", "3.1"))


def other_server(shop: Workshop) -> None:
    shop.server.write_text("pyuwsgi==2.1 --hash=sha256:dd\n", encoding="utf-8")


def other_config(shop: Workshop) -> None:
    shop.app["config"] = {"a": 1, "b": 3}


def other_limits(shop: Workshop) -> None:
    shop.app["limits"]["request_s"] = 31


def new_secret(shop: Workshop) -> None:
    shop.secrets["TOKEN"] = "new"  # noqa: S105  not one


def other_secret(shop: Workshop) -> None:
    shop.secrets["KEY"] = "changed"


def committed(shop: Workshop) -> None:
    shop.commit()


@pytest.mark.parametrize(
    "change",
    [
        other_file,
        new_file,
        renamed_file,
        program,
        other_lock,
        other_server,
        other_config,
        other_limits,
        new_secret,
        other_secret,
        committed,
    ],
)
def test_anything_else_is_another_release(shop: Workshop, change: Callable[[Workshop], None]) -> None:
    shop.secrets["KEY"] = "value"
    first = shop.release()
    change(shop)
    assert shop.release() != first


def test_where_and_how_a_release_travels_is_not_in_it(shop: Workshop) -> None:
    first = shop.release()
    shop.app |= {"release": {"keep": 9}, "commands": {"check": ["x"]}}
    assert shop.release() == first


def test_the_id_begins_with_the_version_and_is_a_file_name(shop: Workshop) -> None:
    shop.put("pyproject.toml", '[project]\nname = "x"\nversion = "2.0/rc-1 é"\n')
    assert shop.release().startswith("2.0_rc_1-")


def test_a_secret_is_in_no_part_of_what_leaves_the_controller(shop: Workshop) -> None:
    shop.secrets["KEY"] = "correct horse"
    shop.release()
    for path in shop.cache.rglob("*.json"):
        assert "correct horse" not in path.read_text(encoding="utf-8")
    assert fingerprint("api", {}) == ""
    assert fingerprint("api", {"a": "b"}) != fingerprint("other", {"a": "b"})


def test_uwsgi_comes_from_the_emperors_lock_unless_the_app_pins_its_own(shop: Workshop) -> None:
    shop.build()
    assert shop.fetched["cp313"] == ["flask", "pyuwsgi"]
    shop.put("requirements.txt", LOCK + "pyuwsgi==1.9 --hash=sha256:ee\n")
    assert [each["version"] for each in shop.build()["wheels"]["cp311"] if each["name"] == "pyuwsgi"] == ["1.9"]


def test_uwsgi_without_a_wheel_is_replaced_by_the_one_with(shop: Workshop) -> None:
    shop.put("requirements.txt", LOCK + "uWSGI==2.0.28 --hash=sha256:ee\n")
    shop.build()
    assert shop.fetched["cp311"] == ["flask", "pyuwsgi"]


def test_each_python_gets_what_its_markers_say(shop: Workshop) -> None:
    shop.put("requirements.txt", LOCK + 'oldie==1.0 ; python_version < "3.12" --hash=sha256:ee\n')
    shop.build()
    assert shop.fetched == {"cp311": ["flask", "oldie", "pyuwsgi"], "cp313": ["flask", "pyuwsgi"]}


def test_requires_python_chooses_the_pythons(shop: Workshop) -> None:
    shop.put("pyproject.toml", '[project]\nname = "x"\nversion = "1"\nrequires-python = ">=3.12"\n')
    assert shop.build()["python"] == ["cp313"]


@pytest.mark.parametrize(
    ("wanted", "words"),
    [("<3.10", "asks for Python <3.10; the supported hosts have 3.11 and 3.13"), ("^3.11", "is no version specifier")],
)
def test_a_python_that_no_host_has_is_refused(shop: Workshop, wanted: str, words: str) -> None:
    shop.put("pyproject.toml", f'[project]\nname = "x"\nversion = "1"\nrequires-python = "{wanted}"\n')
    with pytest.raises(ReleaseError) as caught:
        shop.build()
    assert words in str(caught.value)


def test_a_project_that_does_not_say_what_it_needs_is_refused(shop: Workshop) -> None:
    (shop.project / "requirements.txt").unlink()
    with pytest.raises(ReleaseError, match=r"found neither requirements.txt nor a \[project\] in pyproject.toml"):
        shop.build()


def test_a_pyproject_that_is_no_toml_is_named(shop: Workshop) -> None:
    shop.put("pyproject.toml", "[project\n")
    with pytest.raises(ReleaseError, match=r"pyproject\.toml: .*line 1"):
        shop.build()


@pytest.mark.parametrize("name", ["requirements.txt", "pyproject.toml"])
def test_what_is_not_locked_is_locked_by_the_build(shop: Workshop, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    (shop.project / "requirements.txt").unlink()
    shop.put(name, "flask\n" if name.endswith("txt") else '[project]\nname = "x"\nversion = "1"\n')
    seen: list[Path] = []

    def lock(path: Path, _: Path) -> str:
        seen.append(path)
        return LOCK

    monkeypatch.setattr(wheels, "lock", lock)
    artifact = shop.build()
    assert seen == [shop.project / name]
    kept = (shop.cache / "artifacts" / artifact["artifact"] / "lock.txt").read_text(encoding="utf-8")
    assert kept == "flask==3.0 --hash=sha256:aa\npyuwsgi==2.0 --hash=sha256:bb\n"


def test_a_package_is_built_from_its_pin_alone(shop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def lock(path: Path, _: Path) -> str:
        asked.append(path.read_text(encoding="utf-8"))
        return LOCK

    monkeypatch.setattr(wheels, "lock", lock)
    shop.app["source"] = {"package": "flask==3.0"}
    artifact = shop.build()
    assert asked == ["flask==3.0\n"]
    assert (artifact["version"], artifact["tree"], artifact["commit"]) == ("3.0", None, None)


def test_the_manifest_says_where_it_comes_from(shop: Workshop) -> None:
    artifact = shop.build()
    assert (artifact["commit"], artifact["dirty"], artifact["source"]) == (None, False, "project")
    shop.commit()
    artifact = shop.build()
    assert len(artifact["commit"]) == 40
    assert artifact["dirty"] is False
    assert "@" in artifact["built_by"]
    shop.put("main.py", "app = 3\n")
    assert shop.build()["dirty"] is True


def test_files_that_git_ignores_are_not_in_a_release(shop: Workshop) -> None:
    shop.put(".gitignore", "ignored.py\n")
    for name in ("ignored.py", "untracked.py", "node_modules/x.js", "deleted.py"):
        shop.put(name, "")
    shop.commit()
    (shop.project / "deleted.py").unlink()
    shop.put("later.py", "")
    assert names_in(shop) == [".gitignore", "later.py", "main.py", "requirements.txt", "untracked.py"]


def names_in(shop: Workshop) -> list[str]:
    """The files of the tree that was packed."""
    with tarfile.open(shop.build()["tree"]["path"]) as archive:
        return archive.getnames()


@pytest.mark.parametrize("tracked", [False, True])
def test_links_and_programs_and_hard_links_are_in_a_tree(shop: Workshop, tracked: bool) -> None:  # noqa: FBT001
    shop.put("folder/inner.py", "x")
    (shop.project / "folder/run").write_text("#!", encoding="utf-8")
    (shop.project / "folder/run").chmod(0o700)
    (shop.project / "to_file").symlink_to("main.py")
    (shop.project / "to_folder").symlink_to("folder")
    (shop.project / "to_nothing").symlink_to("nothing")
    os.link(shop.project / "main.py", shop.project / "twin.py")
    if tracked:
        shop.commit()
    with tarfile.open(shop.build()["tree"]["path"]) as archive:
        found = {member.name: member for member in archive}
        twin = archive.extractfile("twin.py")
        assert twin
        assert twin.read() == b"app = 1\n"
    assert {name: found[name].linkname for name in found if found[name].issym()} == {
        "to_file": "main.py",
        "to_folder": "folder",
        "to_nothing": "nothing",
    }
    assert found["folder/run"].mode == 0o755
    assert found["main.py"].mode == 0o644
    assert {(member.uid, member.gid, member.mtime, member.uname) for member in found.values()} == {(0, 0, 0, "")}


def test_a_repository_inside_another_is_in_the_tree(shop: Workshop) -> None:
    shop.commit()
    shop.put("inner/module.py", "x = 1\n")
    subprocess.run(["git", "init", "--quiet", "inner"], cwd=shop.project, check=True)
    assert "inner/module.py" in names_in(shop)


def test_the_apps_own_wheel_is_built_from_its_files_and_not_looked_for_at_an_index(shop: Workshop) -> None:
    shop.put("pyproject.toml", PYPROJECT)
    shop.put("backend.py", BACKEND)
    shop.put("own.py", "X = 1\n")
    shop.put("requirements.txt", LOCK + "own==1.5 --hash=sha256:ee\n")
    first = shop.build()
    assert shop.fetched["cp311"] == ["flask", "pyuwsgi"]
    [own] = [each for each in first["wheels"]["cp311"] if each["name"] == "own"]
    assert first["version"] == "1.5"
    assert first["tree"] is None
    # Zipped at another time it is the same artifact; a wheel that got lost is built again.
    os.utime(shop.project / "own.py", (1_000_000_000, 1_000_000_000))
    Path(own["path"]).unlink()
    again = shop.build()
    assert again["artifact"] == first["artifact"]
    assert all(Path(each["path"]).is_file() for each in again["wheels"]["cp311"])
    shop.put("own.py", "X = 2\n")
    assert shop.build()["artifact"] != first["artifact"]


def test_a_wheel_that_does_not_build_shows_why(shop: Workshop) -> None:
    shop.put("pyproject.toml", PYPROJECT)
    shop.put("backend.py", "def build_wheel(*a, **b): raise ValueError('the reason')\n")
    with pytest.raises(ReleaseError, match=r"(?s)cannot build a wheel of .*the reason"):
        shop.build()


def test_a_wheel_that_fits_one_python_only_is_refused(shop: Workshop) -> None:
    shop.put("pyproject.toml", PYPROJECT)
    shop.put("own.py", "")
    shop.put("backend.py", BACKEND.replace("py3-none-any.whl", "cp311-cp311-linux_x86_64.whl"))
    with pytest.raises(ReleaseError, match="the project compiles something"):
        shop.build()


@pytest.mark.parametrize(
    ("described", "commit", "expected"),
    [("v1.2", "c" * 40, "1.2"), ("1.2-3-gabc", "c" * 40, "0+gcccccccc"), (None, None, "0+gunknown")],
)
def test_a_version_that_comes_from_git_comes_from_the_tag(
    place: Path, described: str | None, commit: str | None, expected: str
) -> None:
    source = builds.Source(place, (), commit, dirty=False, described=described)
    assert builds._scm_version(source) == expected


def remote(shop: Workshop) -> str:
    """Make the project a repository to clone."""
    shop.commit()
    shop.git("tag", "v1.0")
    shop.put("main.py", "app = 2\n")
    shop.commit()
    return str(shop.project)


def test_a_git_source_is_built_from_its_ref(shop: Workshop) -> None:
    shop.app["source"] = {"git": remote(shop), "ref": "v1.0"}
    artifact = shop.build()
    assert (artifact["version"], artifact["dirty"]) == ("v1.0", False)
    assert artifact["source"].endswith("project@v1.0")
    with tarfile.open(artifact["tree"]["path"]) as archive:
        content = archive.extractfile("main.py")
        assert content
        assert content.read() == b"app = 1\n"
    shop.app["source"]["ref"] = "main"
    assert shop.build()["commit"] != artifact["commit"]


def test_a_path_and_a_clone_of_it_are_the_same_files(shop: Workshop) -> None:
    (shop.project / "to_nothing").symlink_to("nothing")
    shop.commit()
    here = shop.build()["tree"]["digest"]
    shop.app["source"] = {"git": str(shop.project), "ref": "main"}
    assert shop.build()["tree"]["digest"] == here


def test_a_tag_that_was_moved_is_followed(shop: Workshop) -> None:
    shop.app["source"] = {"git": remote(shop), "ref": "v1.0"}
    first = shop.build()["commit"]
    shop.git("tag", "--force", "v1.0", "main")
    assert shop.build()["commit"] != first


@pytest.mark.parametrize("ref", ["no-such", "--upload-pack=x", "0" * 40])
def test_a_ref_that_is_not_there_is_named(shop: Workshop, ref: str) -> None:
    shop.app["source"] = {"git": remote(shop), "ref": ref}
    with pytest.raises(ReleaseError, match="the repository has no branch, tag or commit of that name"):
        shop.build()


def test_a_repository_that_is_not_there_is_named(shop: Workshop) -> None:
    shop.app["source"] = {"git": str(shop.place / "none"), "ref": "main"}
    with pytest.raises(ReleaseError, match=r"(?s)cannot get main of .*none.*does not"):
        shop.build()


def test_a_repository_with_a_link_to_the_outside_is_refused(shop: Workshop) -> None:
    (shop.project / "evil").symlink_to("/etc/passwd")
    shop.app["source"] = {"git": remote(shop), "ref": "main"}
    with pytest.raises(ReleaseError, match="evil"):
        shop.build()


def test_a_release_that_was_identified_can_be_taken_again(shop: Workshop) -> None:
    release = shop.release()
    assert recorded(shop.cache, "api", release) == shop.build()
    with pytest.raises(
        ReleaseError, match=f"this controller has no such release of api; the newest that it has: {release}"
    ):
        recorded(shop.cache, "api", "9-z")
    with pytest.raises(ReleaseError, match="the newest that it has: none"):
        recorded(shop.cache, "other", release)


def test_the_bill_of_materials_names_every_wheel_once(shop: Workshop) -> None:
    artifact = shop.build()
    found = json.loads(Path(artifact["sbom"]).read_text(encoding="utf-8"))
    assert (found["bomFormat"], found["specVersion"]) == ("CycloneDX", "1.6")
    listed = {each["name"]: each["hashes"][0]["content"] for each in found["components"]}
    assert listed == {each["name"]: each["sha256"] for each in artifact["wheels"]["cp311"]}
    assert json.loads(sbom(artifact))["metadata"]["component"]["name"] == "api"


def test_the_vassal_file_is_made_of_the_apps_settings(shop: Workshop) -> None:
    shop.app["workers"] = 3
    text = vassal(shop.app, TEMPLATE)
    for line in ("module = main:app", "processes = 3", "threads = 2", "harakiri = 30", "limit-post = 1048576"):
        assert line in text.splitlines()
    shop.app["workers"] = "auto"
    assert "processes = %k" in vassal(shop.app, TEMPLATE).splitlines()
