"""Building: the same input is the same release, anything else is another one."""

import json
import os
import platform
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest
from project import app_entry, imported
from wheel import make_wheel

from praetor.build import debian, locks, requirements, wheels
from praetor.build.artifacts import build
from praetor.build.cache import Wheel, keep
from praetor.build.indexes import Indexes
from praetor.build.manifest import files_of, fingerprint, identify, recorded, sbom, sbom_of
from praetor.build.parts import vassal
from praetor.build.requirements import Requirement
from praetor.build.sources import Source
from praetor.build.systems import SYSTEMS, WITHOUT_HOSTS
from praetor.documents import Artifact, Entry
from praetor.host.layout import ReleaseError

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
        self.project.mkdir(parents=True)
        self.put("requirements.txt", LOCK)
        self.put("main.py", "app = 1\n")
        self.server = place / "server.txt"
        self.server.write_text("pyuwsgi==2.0 --hash=sha256:bb\nuv==0.1 --hash=sha256:cc\n", encoding="utf-8")
        self.app = app_entry(config={"a": 1, "b": 2}, health={"path": "/"})
        self.secrets: dict[str, str] = {}
        self.fetched: dict[str, list[str]] = {}

    def fetch(
        self, locked: list[Requirement], tag: str, _: Indexes | None, cache: Path
    ) -> tuple[list[Wheel], list[Requirement]]:
        """Stand in for the index."""
        assert cache == self.cache
        chosen = [each for each in locked if requirements.applies(each, tag)]
        self.fetched[tag] = sorted({*self.fetched.get(tag, []), *(each.name for each in chosen)})
        found = []
        for each in chosen:
            path = self.place / "index" / f"{each.name}-{each.version}-py3-none-any.whl"
            if not path.exists():
                make_wheel(path.parent, each.name, each.version)
            found.append(keep(path, cache))
        return found, []

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

    def head(self) -> str:
        """The commit of the project."""
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=self.project, check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    @property
    def entry(self) -> Entry:
        """The app as the inventory's check returns it."""
        return cast("Entry", self.app)

    def build(self, pythons: tuple[str, ...] = WITHOUT_HOSTS) -> Artifact:
        """Build the artifact."""
        self.fetched.clear()
        return build(self.entry, self.cache, self.place, self.server, pythons)

    def tree(self) -> Path:
        """Build, and say where the tree that was packed is."""
        manifest = self.build()
        assert manifest["tree"]
        return files_of(manifest, self.cache)[manifest["tree"]["sha256"]]

    def release(self) -> str:
        """Build and identify."""
        return identify(self.entry, self.build(), [vassal(self.entry)], self.secrets, self.cache)


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
    (shop.project / "main").mkdir()
    (shop.project / "main.py").rename(shop.project / "main/__init__.py")


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
    [("<3.10", "asks for Python <3.10; the hosts have 3.11 and 3.13"), ("^3.11", "is no version specifier")],
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


def stand_in(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Resolve to the same lock, whatever is asked; returns what was asked."""
    asked: list[list[str]] = []

    def compiled(command: list[str], _: Indexes, at: Path) -> str:
        asked.append(
            [*command[command.index("--python-version") + 1 :], (at / command[-1]).read_text(encoding="utf-8")]
        )
        return LOCK

    monkeypatch.setattr(locks, "_compile", compiled)
    return asked


@pytest.mark.parametrize("name", ["requirements.txt", "pyproject.toml"])
def test_what_is_not_locked_is_locked_by_the_build(shop: Workshop, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    (shop.project / "requirements.txt").unlink()
    text = "flask\n" if name.endswith("txt") else '[project]\nname = "x"\nversion = "1"\n'
    shop.put(name, text)
    asked = stand_in(monkeypatch)
    artifact = shop.build()
    assert asked == [["3.11", name, text]]
    assert artifact["locked_by"].startswith(f"{name}, resolved on 20")
    kept = (shop.cache / "artifacts" / artifact["artifact"] / "lock.txt").read_text(encoding="utf-8")
    assert kept == "flask==3.0 --hash=sha256:aa\n"
    # Kept, until somebody asks for newer versions.
    shop.build()
    assert len(asked) == 1
    build(shop.entry, shop.cache, shop.place, shop.server, upgrade=True)
    assert len(asked) == 2


def test_a_package_is_built_from_its_pin_and_what_the_entry_adds(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = stand_in(monkeypatch)
    shop.app |= {"source": {"package": "flask==3.0", "extra_requirements": ["redis"]}, "wsgi": "flask:app"}
    artifact = shop.build()
    assert asked == [["3.11", "requirements.in", "flask==3.0\nredis\n"]]
    assert (artifact["version"], artifact["tree"], artifact["commit"]) == ("3.0", None, None)


def test_a_build_is_for_the_pythons_that_are_asked_for_and_resolves_from_the_lowest(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.put("requirements.txt", "flask\n")
    asked = stand_in(monkeypatch)
    assert shop.build(("cp313",))["python"] == ["cp313"]
    assert asked[0][0] == "3.13"
    assert list(shop.fetched) == ["cp313"]


def test_a_python_that_a_build_leaves_out_is_named() -> None:
    told = imported("plugins/action/app_build.py").told
    said = told({"app": "api", "id": "1-a", "python": ["cp313"]}, ["cp311", "cp313"], known=True)
    assert said.endswith("release=1-a (not for Python 3.11, which requires-python in its pyproject.toml excludes)")


def test_a_build_for_more_pythons_than_hosts_may_have_says_that_its_id_is_another(shop: Workshop) -> None:
    told, release = imported("plugins/action/app_build.py").told, {"app": "api", "id": "1-a"}
    both = told({**release, "python": ["cp311", "cp313"]}, known=False)
    assert both.startswith("api 1-a: release it with -e app=api -e release=1-a (it is for Python 3.11 and 3.13; ")
    assert "another id" in both
    assert both.endswith("-e pythons=3.13 makes here too)")
    for pythons, known in ((["cp313"], False), (["cp311", "cp313"], True)):
        assert told({**release, "python": pythons}, known=known) == "api 1-a: release it with -e app=api -e release=1-a"
    # And so it is.
    assert shop.build(("cp313",))["artifact"] != shop.build()["artifact"]


def test_the_manifest_says_where_it_comes_from(shop: Workshop) -> None:
    artifact = shop.build()
    assert (artifact["commit"], artifact["dirty"], artifact["source"]) == (None, False, "project")
    shop.commit()
    artifact = shop.build()
    assert artifact["commit"] == shop.head()
    assert artifact["dirty"] is False
    assert "@" in artifact["built_by"]
    shop.put("main.py", "app = 3\n")
    assert shop.build()["dirty"] is True


def test_what_git_tracks_is_in_a_release_and_what_it_ignores_is_named(shop: Workshop) -> None:
    shop.put(".gitignore", "ignored.py\n*.log\nvar/\n")
    tracked = ["static/dist/app.js", "static/build/app.css", "node_modules/x.js", "dist/y.js", "a/venv/z.py", "gone.py"]
    for name in [*tracked, "ignored.py", "var/db"]:
        shop.put(name, "")
    shop.commit()
    (shop.project / "gone.py").unlink()
    for name in [
        "later.py",
        "static/node_modules/new.js",
        "build/left.py",
        "own-env/pyvenv.cfg",
        "a/__pycache__/z.pyc",
    ]:
        shop.put(name, "")
    expected = {*tracked, ".gitignore", "later.py", "main.py", "requirements.txt", "static/node_modules/new.js"}
    assert set(names_in(shop)) == expected - {"gone.py"}
    assert shop.build()["left_out"] == [
        "build (not tracked by git)",
        "ignored.py (ignored by git)",
        "own-env (not tracked by git)",
        "var (ignored by git)",
    ]


@pytest.mark.parametrize("is_git", [True, False])
def test_a_name_in_another_encoding_is_shipped_byte_for_byte(shop: Workshop, *, is_git: bool) -> None:
    old = [os.fsdecode(name) for name in (b"m\xfcller.txt", b"link\xe9")]
    (shop.project / old[0]).write_text("x")
    (shop.project / old[1]).symlink_to(old[0])
    if is_git:
        shop.put(".gitignore", "*.log\n")
        (shop.project / os.fsdecode(b"l\xf6.log")).write_text("x")
        shop.commit()
    assert set(old) < set(names_in(shop))
    assert shop.build()["left_out"] == (["l\ufffd.log (ignored by git)"] if is_git else [])


def test_leftovers_are_left_out_at_the_root_only_where_there_is_no_git(shop: Workshop) -> None:
    for name in ["venv/x.py", "dist/x.whl", "web/dist/app.js", "web/node_modules/x.js", "__pycache__/main.pyc"]:
        shop.put(name, "")
    assert names_in(shop) == ["main.py", "requirements.txt", "web/dist/app.js", "web/node_modules/x.js"]
    assert shop.build()["left_out"] == ["dist", "venv"]


def test_what_git_ignores_can_be_included(shop: Workshop) -> None:
    shop.put(".gitignore", "static/\n*.mo\n")
    shop.commit()
    for name in ["static/bundle/app.js", "static/other.js", "de/x.mo", "fr/x.mo"]:
        shop.put(name, "")
    shop.app["source"]["include"] = ["static/bundle", "*/x.mo"]
    assert names_in(shop)[1:5] == ["de/x.mo", "fr/x.mo", "main.py", "requirements.txt"]
    assert "static/bundle/app.js" in names_in(shop)
    assert "static/other.js" not in names_in(shop)
    shop.app["source"]["include"] = ["static/bundel"]
    with pytest.raises(ReleaseError, match=r"source\.include: static/bundel: there is no such file"):
        shop.build()


@pytest.mark.parametrize("leads_to", ["/etc/passwd", "../outside", "folder/../../outside"])
@pytest.mark.parametrize("tracked", [True, False])
def test_a_link_out_of_the_tree_is_refused_by_the_build(shop: Workshop, leads_to: str, tracked: bool) -> None:  # noqa: FBT001
    shop.put("folder/x.py", "")
    (shop.place / "outside").write_text("", encoding="utf-8")
    (shop.project / "link").symlink_to(leads_to)
    if tracked:
        shop.commit()
    with pytest.raises(ReleaseError, match=f"link is a symbolic link to {leads_to}, which is outside"):
        shop.build()


def with_submodule(shop: Workshop) -> None:
    library = Workshop(shop.place / "library")
    library.put("lib.py", "X = 1\n")
    library.commit()
    shop.commit()
    shop.git("-c", "protocol.file.allow=always", "submodule", "add", str(library.project), "vendor/lib")
    shop.commit()


def test_submodules_are_in_a_tree_and_in_a_clone(shop: Workshop) -> None:
    (shop.place / "library").mkdir()
    with_submodule(shop)
    assert "vendor/lib/lib.py" in names_in(shop)
    shop.app["source"] = {"git": str(shop.project), "ref": "main"}
    assert "vendor/lib/lib.py" in names_in(shop)


def test_a_submodule_that_was_never_fetched_is_fetched_and_the_working_copy_stays(shop: Workshop) -> None:
    (shop.place / "library").mkdir()
    with_submodule(shop)
    shop.git("submodule", "deinit", "--force", "vendor/lib")
    assert not list((shop.project / "vendor/lib").iterdir())
    assert "vendor/lib/lib.py" in names_in(shop)
    assert not list((shop.project / "vendor/lib").iterdir())
    shutil.rmtree(shop.place / "library")
    with pytest.raises(ReleaseError, match="submodule vendor/lib: its submodules cannot be fetched"):
        shop.build()


def test_a_pointer_of_git_lfs_is_never_shipped(shop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "4d" * 32 + "\nsize 12345\n"
    shop.put("static/model.bin", pointer)
    shop.commit()
    which = shutil.which
    monkeypatch.setattr(shutil, "which", lambda name, **_: None if name == "git-lfs" else which(name))
    with pytest.raises(ReleaseError, match=r"static/model\.bin: in Git LFS, .* Install git-lfs"):
        shop.build()


@pytest.mark.skipif(shutil.which("git-lfs") is None, reason="needs git-lfs, which `make unit` brings")
@pytest.mark.parametrize("kind", ["path", "git"])
def test_files_of_git_lfs_are_fetched(shop: Workshop, kind: str) -> None:
    shop.git("init")
    shop.git("lfs", "install", "--local")
    shop.git("lfs", "track", "*.bin")
    shop.put("static/model.bin", "the model " * 200)
    shop.commit()
    clone = shop.place / "clone"
    subprocess.run(
        ["git", "clone", "-q", str(shop.project), str(clone)],
        check=True,
        env={**os.environ, "GIT_LFS_SKIP_SMUDGE": "1"},
    )
    assert (clone / "static/model.bin").stat().st_size < 200
    shop.app["source"] = {"path": "clone"} if kind == "path" else {"git": f"file://{shop.project}", "ref": "main"}
    with tarfile.open(shop.tree()) as archive:
        content = archive.extractfile("static/model.bin")
        assert content
        assert content.read() == b"the model " * 200
    assert (clone / "static/model.bin").stat().st_size < 200


def test_an_app_in_a_directory_of_a_repository(shop: Workshop) -> None:
    shop.put("services/api/requirements.txt", LOCK)
    shop.put("services/api/wsgi.py", "app = 1\n")
    shop.commit()
    shop.app |= {"source": {"git": str(shop.project), "ref": "main", "subdir": "services/api"}, "wsgi": "wsgi:app"}
    assert names_in(shop) == ["requirements.txt", "wsgi.py"]
    shop.app["source"]["subdir"] = "services/apy"
    with pytest.raises(ReleaseError, match="it has no directory services/apy"):
        shop.build()


def test_a_setup_py_next_to_requirements_forces_nothing(shop: Workshop) -> None:
    shop.put("setup.py", "raise SystemExit('nobody uses this')\n")
    assert "setup.py" in names_in(shop)


def test_no_place_of_the_controller_is_in_a_manifest(shop: Workshop) -> None:
    shop.put("lib/x-1.0-py3-none-any.whl", "")
    (shop.project / "lib/x-1.0-py3-none-any.whl").unlink()
    make_wheel(shop.project / "lib", "x")
    shop.put("requirements.txt", LOCK + "./lib/x-1.0-py3-none-any.whl\n")
    for source in ({"path": str(shop.project)}, {"path": "project"}):
        shop.app["source"] = source
        manifest = shop.build()
        assert str(shop.place) not in json.dumps(manifest)
        assert manifest["source"] == "project"
    [own] = [each for each in manifest["wheels"]["cp311"] if each["name"] == "x"]
    assert own["origin"] == "lib/x-1.0-py3-none-any.whl"


def test_a_folder_of_the_project_is_built_with_it(shop: Workshop) -> None:
    shop.put("libs/own/pyproject.toml", PYPROJECT)
    shop.put("libs/own/backend.py", BACKEND)
    shop.put("libs/own/own.py", "X = 1\n")
    shop.put("requirements.txt", LOCK + "-e ./libs/own\n")
    manifest = shop.build()
    assert [each["origin"] for each in manifest["wheels"]["cp311"] if each["name"] == "own"] == ["own of the project"]
    shop.put("libs/own/own.py", "X = 2\n")
    assert shop.build()["artifact"] != manifest["artifact"]


def test_a_requirement_at_a_commit_is_built_and_recorded(shop: Workshop) -> None:
    library = Workshop(shop.place / "a")
    for name, text in {"pyproject.toml": PYPROJECT, "backend.py": BACKEND, "own.py": "X = 1\n"}.items():
        library.put(name, text)
    library.commit()
    commit = library.head()
    shop.put("requirements.txt", LOCK + f"own @ git+file://{library.project}@{commit}\n")
    [own] = [each for each in shop.build()["wheels"]["cp313"] if each["name"] == "own"]
    assert own["origin"] == f"git+file://{library.project}@{commit}"


def test_a_repository_cannot_name_a_folder_outside_itself(shop: Workshop) -> None:
    Workshop(shop.place / "secret").put("pyproject.toml", PYPROJECT)
    shop.put("requirements.txt", LOCK + f"{shop.place}/secret/project\n")
    shop.commit()
    shop.app["source"] = {"git": str(shop.project), "ref": "main"}
    with pytest.raises(ReleaseError, match="names a folder outside itself"):
        shop.build()


def test_build_commands_run_in_a_copy_and_what_they_make_is_shipped(shop: Workshop) -> None:
    shop.put(".gitignore", "static/\n")
    shop.put(
        "make",
        "#!/bin/sh\nmkdir -p static/dist node_modules/x web/node_modules\necho $APP_COMMIT-$WORD >static/dist/v\n"
        'touch node_modules/x/y web/node_modules/z\necho once >>"$COUNTED"\n',
    )
    (shop.project / "make").chmod(0o755)
    shop.commit()
    shop.app["build"] = [["./make"]]
    shop.app["env"] = {"WORD": "green", "COUNTED": str(shop.place / "counted")}
    with tarfile.open(shop.tree()) as archive:
        names = archive.getnames()
        made = archive.extractfile("static/dist/v")
        assert made
        assert made.read().decode() == f"{shop.head()}-green\n"
    assert names == [".gitignore", "main.py", "make", "requirements.txt", "static/dist/v"]
    assert sorted(path.name for path in shop.project.iterdir()) == [
        ".git",
        ".gitignore",
        "main.py",
        "make",
        "requirements.txt",
    ]
    # The same again is taken from the cache; another tree is built again.
    first = shop.release()
    assert (shop.place / "counted").read_text(encoding="utf-8") == "once\n"
    shop.put("main.py", "app = 2\n")
    assert shop.release() != first
    assert (shop.place / "counted").read_text(encoding="utf-8") == "once\nonce\n"


def test_a_build_command_that_fails_shows_why_and_keeps_its_output(shop: Workshop) -> None:
    shop.app["build"] = [["sh", "-c", "echo the reason; exit 3"]]
    with pytest.raises(ReleaseError, match=r"(?s)'sh -c .*' failed with exit status 3; .*api-build\.log:\nthe reason"):
        shop.build()
    assert "the reason" in (shop.cache / "logs/api-build.log").read_text(encoding="utf-8")
    shop.app["build"] = [["no-such-program"]]
    with pytest.raises(ReleaseError, match=r"build: |no virtualenv"):
        shop.build()


def test_build_commands_find_what_the_app_needs(shop: Workshop) -> None:
    shop.app["build"] = [
        [
            "python",
            "-c",
            "import flask, main, os; open(os.environ['APP_DATA_DIR'] + '/x', 'w'); open('made.txt', 'w').write(flask.VERSION)",
        ]
    ]
    assert "made.txt" in names_in(shop)


def test_build_commands_find_it_for_another_processor_too(shop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    """The host has another processor than this controller: the wheels that go there are of no use here."""
    other = "aarch64" if platform.machine() == "x86_64" else "x86_64"
    tag = next(tag for tag, system in SYSTEMS.items() if system.machine == other and system.python == "3.11")
    shop.app["build"] = [["python", "-c", "import flask; open('made.txt', 'w').write(flask.VERSION)"]]
    manifest = shop.build((tag,))
    assert list(manifest["wheels"]) == [tag]
    assert len(shop.fetched) == 2, "those of the host, and those for the commands"
    monkeypatch.setattr(platform, "machine", lambda: "sparc64")
    shop.put("main.py", "app = 2\n")
    with pytest.raises(ReleaseError, match="this controller has none of the hosts'"):
        shop.build((tag,))


def test_a_template_that_the_backend_leaves_out_is_named(shop: Workshop) -> None:
    shop.put("pyproject.toml", PYPROJECT)
    shop.put("backend.py", BACKEND.replace('archive.write("own.py")', 'archive.write("own/__init__.py")'))
    shop.put("own/__init__.py", "")
    shop.put("own/templates/a.html", "")
    shop.app["wsgi"] = "own:app"
    assert shop.build()["left_out"] == ["own/templates/a.html (not put into the wheel by the project's build backend)"]


def names_in(shop: Workshop) -> list[str]:
    """The files of the tree that was packed."""
    with tarfile.open(shop.tree()) as archive:
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
    with tarfile.open(shop.tree()) as archive:
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
    shop.app["wsgi"] = "own:app"
    first = shop.build()
    assert shop.fetched["cp311"] == ["flask", "pyuwsgi"]
    [own] = [each for each in first["wheels"]["cp311"] if each["name"] == "own"]
    assert first["version"] == "1.5"
    assert first["tree"] is None
    # Zipped at another time it is the same artifact; a wheel that got lost is built again.
    os.utime(shop.project / "own.py", (1_000_000_000, 1_000_000_000))
    files_of(first, shop.cache)[own["sha256"]].unlink()
    again = shop.build()
    assert again["artifact"] == first["artifact"]
    assert all(path.is_file() for path in files_of(again, shop.cache).values())
    shop.put("own.py", "X = 2\n")
    assert shop.build()["artifact"] != first["artifact"]


def packaged(shop: Workshop) -> None:
    """Make the project a package, with what is usual next to one."""
    shop.put("pyproject.toml", PYPROJECT)
    shop.put("backend.py", BACKEND)
    shop.put("own.py", "X = 1\n")
    for name in ("migrations/env.py", "migrations/versions/1.py", "tests/test_own.py"):
        shop.put(name, "")


def test_what_lies_next_to_a_package_is_shipped_if_it_is_named(shop: Workshop) -> None:
    packaged(shop)
    shop.app |= {"wsgi": "own:app"}
    plain = shop.release()
    shop.put("tests/test_own.py", "# changed\n")
    assert shop.release() == plain, "what is not shipped is no part of a release"
    shop.app |= {"source": {"path": "project", "include": ["main.py", "migrations", "own.py"]}, "wsgi": "main:app"}
    assert names_in(shop) == ["main.py", "migrations/env.py", "migrations/versions/1.py"]
    first = shop.release()
    shop.put("migrations/versions/2.py", "")
    assert shop.release() != first


@pytest.mark.parametrize(
    ("wsgi", "words"),
    [
        (
            "main:app",
            r"has no main; there are own\. Or ship main\.py next to the wheel: source: \{include: \[main\.py\]\}$",
        ),
        ("migrations.env:app", r"has no migrations\.env; .*include: \[migrations\]"),
        ("wsgi:app", r"has no wsgi; there are own$"),
    ],
)
def test_a_module_that_a_package_has_not_is_named(shop: Workshop, wsgi: str, words: str) -> None:
    packaged(shop)
    shop.app["wsgi"] = wsgi
    with pytest.raises(ReleaseError, match=words):
        shop.build()


@pytest.mark.parametrize("wsgi", ["mian:app", "main.app:app", "shop.wsgi:app"])
def test_a_module_that_is_nowhere_is_named(shop: Workshop, wsgi: str) -> None:
    shop.app["wsgi"] = wsgi
    with pytest.raises(ReleaseError, match=f"found {wsgi}, expected .*: neither the project nor .*; there are main$"):
        shop.build()


@pytest.mark.parametrize("wsgi", ["flask.made.as.it.likes:app", "wsgiref.simple_server:demo_app", "made.by.c:app"])
def test_a_module_that_only_running_it_would_show_is_left_to_the_gate(shop: Workshop, wsgi: str) -> None:
    shop.put("made/by/c.cpython-311-x86_64-linux-gnu.so", "")
    shop.app["wsgi"] = wsgi
    assert shop.build()["tree"]


def test_a_build_uses_the_controllers_python_whatever_the_project_asks_for(shop: Workshop) -> None:
    packaged(shop)
    shop.put("pyproject.toml", PYPROJECT + 'requires-python = ">=3.99"\n')
    source = Source(
        shop.project, (Path("backend.py"), Path("own.py"), Path("pyproject.toml")), None, dirty=False, described=None
    )
    wheels.made_of_tree(source, "key", ["cp399"], Indexes(), [], shop.cache, "1.5")


def test_a_wheel_that_does_not_build_shows_why(shop: Workshop) -> None:
    shop.put("pyproject.toml", PYPROJECT)
    shop.put("backend.py", "def build_wheel(*a, **b): raise ValueError('the reason')\n")
    with pytest.raises(ReleaseError, match=r"(?s)cannot build a wheel of .*the reason"):
        shop.build()


def test_what_compiles_needs_a_debian_tree(shop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.put("pyproject.toml", PYPROJECT)
    shop.put("own.py", "")
    shop.put("backend.py", BACKEND.replace("py3-none-any.whl", "cp311-cp311-linux_x86_64.whl"))
    monkeypatch.setattr(debian, "BASES", shop.place / "none")
    with pytest.raises(ReleaseError, match=r"(?s)project compiles something.*this controller lacks a tree of bookworm"):
        shop.build()


@pytest.mark.parametrize(
    ("described", "commit", "expected"),
    [("v1.2", "c" * 40, "1.2"), ("1.2-3-gabc", "c" * 40, "0+gcccccccc"), (None, None, "0+gunknown")],
)
def test_a_version_that_comes_from_git_comes_from_the_tag(
    place: Path, described: str | None, commit: str | None, expected: str
) -> None:
    source = Source(place, (), commit, dirty=False, described=described)
    assert wheels.scm_version(source) == expected


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
    with tarfile.open(shop.tree()) as archive:
        content = archive.extractfile("main.py")
        assert content
        assert content.read() == b"app = 1\n"
    shop.app["source"]["ref"] = "main"
    assert shop.build()["commit"] != artifact["commit"]


def test_a_path_and_a_clone_of_it_are_the_same_files(shop: Workshop) -> None:
    (shop.project / "to_nothing").symlink_to("nothing")
    shop.commit()
    here = shop.build()["tree"]
    shop.app["source"] = {"git": str(shop.project), "ref": "main"}
    assert shop.build()["tree"] == here


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
    found = json.loads(sbom_of(artifact, shop.cache).read_text(encoding="utf-8"))
    assert (found["bomFormat"], found["specVersion"]) == ("CycloneDX", "1.6")
    listed = {each["name"]: each["hashes"][0]["content"] for each in found["components"]}
    assert listed == {each["name"]: each["sha256"] for each in artifact["wheels"]["cp311"]}
    assert found["metadata"]["component"]["name"] == "api"
    # Made again, elsewhere and later, it is the same text.
    assert json.loads(sbom(artifact)) == found


def test_the_vassal_file_is_made_of_the_apps_settings(shop: Workshop) -> None:
    shop.app["workers"] = 3
    text = vassal(shop.entry)
    for line in ("set-placeholder = slot-app=main:app", "processes = 3", "threads = 2", "limit-post = 1048576"):
        assert line in text.splitlines()
    assert "/run/uwsgi/api/%n.state 2\n" in text
    assert "set-placeholder = slot-request-s=30\n" in text
    shop.app["workers"] = "auto"
    assert "processes = %k" in vassal(shop.entry).splitlines()


def test_an_app_is_loaded_by_each_worker_unless_it_says_that_it_can_be_forked(shop: Workshop) -> None:
    lines = vassal(shop.entry).splitlines()
    assert ("lazy-apps = true" in lines, "need-app = true" in lines) == (True, False)
    shop.app["preload"] = True
    lines = vassal(shop.entry).splitlines()
    assert ("lazy-apps = true" in lines, "need-app = true" in lines) == (False, True)


def test_uwsgi_takes_the_largest_body_and_waits_for_the_longest_request_of_all_paths(shop: Workshop) -> None:
    shop.app["http"]["paths"] = [
        {"path": "/up", "request_s": None, "body_mb": 50, "stream": False},
        {"path": "/report", "request_s": 200, "body_mb": None, "stream": False},
    ]
    text = vassal(shop.entry)
    assert f"limit-post = {50 * 2**20}\n" in text
    assert "reload-mercy = 205\n" in text


def test_static_places_that_nothing_has_are_refused_all_at_once(shop: Workshop) -> None:
    shop.put("static/app.js", "a")
    shop.app["static"] = {"/static": "static", "/favicon.ico": "static/favicon.ico", "/lib": "flask/static"}
    with pytest.raises(ReleaseError) as refused:
        shop.build()
    assert [line.split(" is no file")[0] for line in str(refused.value).splitlines()] == [
        "static: /favicon.ico: static/favicon.ico",
        "static: /lib: flask/static",
    ]
    shop.app["static"] = {"/static/": "static/"}
    shop.build()
