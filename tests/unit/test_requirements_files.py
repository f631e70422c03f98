"""What a project says it needs: requirements files and their options, locks of several tools, indexes of pip and uv."""

import functools
import http.server
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from wheel import make_wheel, sha256

from praetor.build import indexes, locks
from praetor.build.indexes import Indexes
from praetor.build.locks import Asked, Lock
from praetor.build.programs import without_credentials
from praetor.build.requirements import Requirement, parsed, read
from praetor.build.sources import Source
from praetor.host.layout import ReleaseError

BOTH = Asked("", (), (), ("cp311", "cp313"), upgrade=False)


@pytest.fixture
def project(place: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty project; neither pip nor uv has any configuration."""
    for name in [name for name in os.environ if name.startswith(("PIP_", "UV_"))]:
        monkeypatch.delenv(name)
    for name, value in {
        "PIP_CONFIG_FILE": os.devnull,
        "UV_CACHE_DIR": str(place / "uv"),
        "XDG_CONFIG_HOME": str(place / "config"),
        "HOME": str(place),
        "no_proxy": "*",
        "UV_HTTP_RETRIES": "0",
        "PIP_RETRIES": "0",
    }.items():
        monkeypatch.setenv(name, value)
    found = place / "project"
    found.mkdir()
    return found


@pytest.fixture
def index(project: Path) -> Path:
    """Return a directory of wheels for the project's requirements files."""
    found = project.parent / "wheels"
    found.mkdir()
    return found


def lock_of(project: Path, asked: Asked = BOTH, pyproject: dict[str, object] | None = None) -> Lock:
    files = tuple(path.relative_to(project) for path in project.rglob("*") if path.is_file())
    source = Source(project, files, None, dirty=False, described=None, at=project)
    return locks.of_project(source, pyproject or {}, asked, project.parent / "cache")


def put(project: Path, name: str, text: str | bytes) -> None:
    path = project / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)


def named(lock: Lock) -> set[str]:
    return {f"{each.name}=={each.version}" if each.version else each.text for each in lock.requirements}


def test_files_that_others_include_are_read_with_their_options(project: Path) -> None:
    put(
        project,
        "requirements.txt",
        "--extra-index-url https://x.example/simple\r\n-r more/base.txt\r\nflask>=3  # why\r\n",
    )
    put(
        project,
        "more/base.txt",
        '-c ../pins.txt\n--find-links wheels\nclick >= 8 ; python_version < "3.12"\n./lib\n--pre\n',
    )
    put(project, "more/wheels/x", "")
    put(project, "more/lib/pyproject.toml", "")
    put(project, "pins.txt", "werkzeug<3.1\n")
    told = read(project / "requirements.txt", project)
    assert [each.text for each in told.requirements] == ['click >= 8 ; python_version < "3.12"', "./lib", "flask>=3"]
    assert told.requirements[1].path == project / "more/lib"
    assert told.requirements[0].marker == 'python_version < "3.12"'
    assert told.indexes.extra == ["https://x.example/simple"]
    assert told.indexes.find_links == [str(project / "more/wheels")]
    assert (told.pre, told.constraints, told.locked) == (True, True, False)
    assert [path.name for path in told.files] == ["requirements.txt", "base.txt", "pins.txt"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("flask\n".encode("utf-16"), r"requirements\.txt: found UTF-16, expected UTF-8"),
        (b"flask\n# caf\xe9\n", r"requirements\.txt, line 2: found bytes that are not UTF-8"),
        (b"flask\n-r base.txt\n", r"requirements\.txt, line 2: -r base\.txt: there is no such file"),
        (b"-r https://x.example/r.txt", r"line 1: .*copy it into the project"),
        (b"./libs/x\n", r"line 1: \./libs/x: there is no x at"),
        (b"flask ==\n", r"line 1: flask ==: not a requirement"),
        (b"--hassh x\n", r"line 1: --hassh x: an option that the build does not know"),
        (b"-i https://u:${NO_SUCH_TOKEN}@x.example/\n", r"line 1: .*the variable NO_SUCH_TOKEN is not set"),
    ],
)
def test_a_line_that_cannot_be_kept_is_named_with_its_file(project: Path, content: bytes, words: str) -> None:
    put(project, "requirements.txt", content)
    with pytest.raises(ReleaseError, match=words):
        read(project / "requirements.txt", project)


def test_a_byte_order_mark_is_no_part_of_a_name(project: Path) -> None:
    put(project, "requirements.txt", b"\xef\xbb\xbfflask\n")
    assert read(project / "requirements.txt", project).requirements[0].name == "flask"


@pytest.mark.parametrize(
    ("text", "git", "path"),
    [
        ("own @ git+https://x.example/a/own.git@v1", ("https://x.example/a/own.git", "v1", "."), None),
        ("own @ git+ssh://git@x.example/own@" + "a" * 40, ("ssh://git@x.example/own", "a" * 40, "."), None),
        (
            "own @ git+https://x.example/own@v1#subdirectory=py/own ; python_version < '4'",
            ("https://x.example/own", "v1", "py/own"),
            None,
        ),
        ("own @ git+https://x.example/own", ("https://x.example/own", "HEAD", "."), None),
        ("./libs/own[fast]", None, "libs/own"),
        ("vendor/own-1.0-py3-none-any.whl", None, "vendor/own-1.0-py3-none-any.whl"),
        ("own @ file:///srv/own", None, "/srv/own"),
        ("own[fast]==1.0 ; sys_platform == 'linux'", None, None),
        ("own @ https://x.example/own-1.0-py3-none-any.whl", None, None),
    ],
)
def test_each_form_of_a_requirement_is_told_apart(
    text: str, git: tuple[str, str, str] | None, path: str | None
) -> None:
    found = Requirement(text)
    assert (found.git, found.path) == (git, Path(path) if path else None)


def test_an_editable_requirement_is_what_it_names(project: Path) -> None:
    [folder, git] = parsed("-e ./libs/own\n--editable git+https://x.example/own@v1#egg=own\n", project)
    assert folder.path == project / "libs/own"
    assert git.git == ("https://x.example/own", "v1", ".")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("flask==1.0 --hash=sha256:aa", True),
        ("flask==1.0", False),
        ("flask>=1.0 --hash=sha256:aa", False),
        ("flask==1.0 --hash=sha256:aa\nother", False),
        ('flask>=1.0 ; python_version == "3.11" --hash=sha256:aa', False),
        ("flask==1.0 --hash=sha256:aa\nown @ git+https://x.example/own@v1", False),
        ("flask==1.0 --hash=sha256:aa\nown @ git+https://x.example/own@" + "a" * 40, True),
        ("# nothing\n", False),
    ],
)
def test_locked_is_what_is_pinned_with_hashes(project: Path, text: str, expected: bool) -> None:  # noqa: FBT001
    put(project, "requirements.txt", text)
    assert read(project / "requirements.txt", project).locked is expected


def test_hashed_requirements_are_used_as_they_are(project: Path) -> None:
    put(project, "requirements.txt", "flask==1.0 \\\n    --hash=sha256:aa\n")
    lock = lock_of(project)
    assert (named(lock), lock.origin) == ({"flask==1.0"}, "requirements.txt")


UV_LOCK = """version = 1
revision = 3
requires-python = ">=3.11"
[[package]]
name = "shop"
version = "1"
source = { virtual = "." }
dependencies = [{ name = "tiny" }]
[package.optional-dependencies]
fast = [{ name = "quick" }]
[package.metadata]
requires-dist = [{ name = "tiny", specifier = ">=1" }, { name = "quick", marker = "extra == 'fast'" }]
provides-extras = ["fast"]
[[package]]
name = "tiny"
version = "1.5"
source = { registry = "https://x.example/simple" }
wheels = [{ url = "https://x.example/tiny-1.5-py3-none-any.whl", hash = "sha256:AA" }]
[[package]]
name = "quick"
version = "2.0"
source = { registry = "https://x.example/simple" }
wheels = [{ url = "https://x.example/quick-2.0-py3-none-any.whl", hash = "sha256:BB" }]
""".replace("AA", "a" * 64).replace("BB", "b" * 64)
SHOP = """[project]
name = "shop"
version = "1"
requires-python = ">=3.11"
dependencies = ["tiny>=1"]
[project.optional-dependencies]
fast = ["quick"]
"""


def test_a_uv_lock_decides_whatever_else_is_there(project: Path) -> None:
    put(project, "pyproject.toml", SHOP)
    put(project, "uv.lock", UV_LOCK)
    put(project, "requirements.txt", "tiny>=1\n")
    lock = lock_of(project)
    assert (named(lock), lock.origin) == ({"tiny==1.5"}, "uv.lock")
    assert lock.requirements[0].hashes == ("sha256:" + "a" * 64,)
    assert named(lock_of(project, Asked("", ("fast",), (), ("cp313",), upgrade=False))) == {"tiny==1.5", "quick==2.0"}


def test_a_pylock_is_used_as_it_is(project: Path) -> None:
    hashes = f'hashes = {{ sha256 = "{"a" * 64}" }}'
    put(
        project,
        "pylock.toml",
        f"""lock-version = "1.0"
created-by = "x"
[[packages]]
name = "tiny"
version = "1.5"
marker = "python_version < '3.12'"
wheels = [{{ name = "tiny-1.5-py3-none-any.whl", url = "https://x.example/tiny-1.5-py3-none-any.whl", {hashes} }}]
[[packages]]
name = "own"
directory = {{ path = "libs/own" }}
[[packages]]
name = "far"
vcs = {{ type = "git", url = "https://x.example/far", commit-id = "{"c" * 40}" }}
""",
    )
    tiny, own, far = lock_of(project).requirements
    assert (tiny.version, tiny.marker, tiny.hashes) == ("1.5", 'python_version < "3.12"', ("sha256:" + "a" * 64,))
    assert own.path == project / "libs/own"
    assert far.git == ("https://x.example/far", "c" * 40, ".")


@pytest.mark.parametrize(
    ("name", "command"),
    [("poetry.lock", "poetry export"), ("Pipfile.lock", "pipenv requirements --hash"), ("pdm.lock", "pdm export")],
)
def test_the_lock_of_another_tool_is_refused_with_the_command_that_exports_it(
    project: Path, name: str, command: str
) -> None:
    put(project, name, "")
    put(project, "requirements.txt", "tiny\n")
    with pytest.raises(ReleaseError, match=rf"(?s){name}: found a lock that the build does not read.*{command}"):
        lock_of(project)
    put(project, "requirements.txt", "tiny==1 --hash=sha256:aa\n")
    assert named(lock_of(project)) == {"tiny==1"}


def test_the_file_that_the_entry_names_decides(project: Path, index: Path) -> None:
    make_wheel(index, "tiny")
    put(project, "poetry.lock", "")
    put(project, "requirements.txt", "other\n")
    put(project, "requirements/prod.txt", f"--no-index\n--find-links {index}\n-r base.txt\n")
    put(project, "requirements/base.txt", "tiny\n")
    asked = Asked("requirements/prod.txt", (), (), ("cp313",), upgrade=False)
    assert named(lock_of(project, asked)) == {"tiny==1.0"}


def test_a_resolution_is_kept_until_something_that_it_depends_on_changes(project: Path, index: Path) -> None:
    make_wheel(index, "tiny", needs='extra-thing ; python_version < "3.12"')
    thing = make_wheel(index, "extra_thing")
    put(project, "requirements.txt", f"--no-index\n--find-links {index}\n-r base.txt\n./libs/own\n")
    put(project, "base.txt", "tiny\n")
    put(project, "libs/own/pyproject.toml", '[project]\nname = "own"\nversion = "1"\ndependencies = []\n')
    lock = lock_of(project)
    assert named(lock) == {"tiny==1.0", "extra-thing==1.0", "./libs/own"}
    assert f"sha256:{sha256(thing)}" in [value for each in lock.requirements for value in each.hashes]
    assert lock.origin.startswith("requirements.txt, resolved on ")
    # What is published later changes nothing, until it is asked for.
    make_wheel(index, "tiny", "2.0")
    assert named(lock_of(project)) == named(lock)
    assert "tiny==2.0" in named(lock_of(project, Asked("", (), (), ("cp311",), upgrade=True)))
    # Any file that takes part counts.
    put(project, "libs/own/pyproject.toml", '[project]\nname = "own"\nversion = "1"\ndependencies = ["extra-thing"]\n')
    assert "tiny==2.0" in named(lock_of(project))


def test_what_the_entry_adds_fits_the_projects_lock(project: Path, index: Path) -> None:
    old, new = make_wheel(index, "tiny"), make_wheel(index, "tiny", "2.0")
    assert old != new
    make_wheel(index, "more", needs="tiny")
    put(project, "requirements.txt", f"--no-index\n--find-links {index}\ntiny==1.0 --hash=sha256:{sha256(old)}\n")
    lock = lock_of(project, Asked("", (), ("more",), ("cp311",), upgrade=False))
    assert named(lock) == {"tiny==1.0", "more==1.0"}
    assert lock.origin == "requirements.txt and source.extra_requirements"


def test_what_cannot_be_resolved_is_explained(project: Path, index: Path) -> None:
    put(project, "requirements.txt", f"--no-index\n--find-links {index}\nno-such-thing\n")
    with pytest.raises(ReleaseError, match=r"(?s)the requirements cannot be resolved:.*no-such-thing"):
        lock_of(project)
    assert not list((project.parent / "cache").rglob("*.txt"))


# --- indexes --------------------------------------------------------------------------------------------------------


class _Private(http.server.SimpleHTTPRequestHandler):
    """An index that wants a password."""

    def do_GET(self) -> None:
        """Answer who knows it."""
        if self.headers.get("Authorization") == "Basic cmVhZGVyOnMzY3JldA==":
            super().do_GET()
        else:
            self.send_response(401)
            self.send_header("WWW-Authenticate", "Basic")
            self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def private(project: Path) -> Iterator[str]:
    """Serve an index on loopback that has one package and wants a password; return its host, port and path."""
    folder = project.parent / "served/simple/mylib"
    make_wheel(folder, "mylib")
    handler = functools.partial(_Private, directory=str(project.parent / "served"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_address[1]}/simple"
        server.shutdown()


def requirements_file(project: Path, address: str, **_: object) -> None:
    put(project, "requirements.txt", f"-i http://reader:s3cret@{address}\nmylib\n")


def variable_in_file(project: Path, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INDEX_TOKEN", "s3cret")
    put(project, "requirements.txt", f"--index-url http://reader:${{INDEX_TOKEN}}@{address}\nmylib\n")


def netrc(project: Path, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    put(project.parent, "netrc", "machine 127.0.0.1 login reader password s3cret\n")
    (project.parent / "netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(project.parent / "netrc"))
    put(project, "requirements.txt", f"--index-url http://{address}\nmylib\n")


def pip_variable(project: Path, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", f"http://reader:s3cret@{address}")
    put(project, "requirements.txt", "mylib\n")


def pip_file(project: Path, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    put(project.parent, "pip.conf", f"[global]\nindex-url = http://reader:s3cret@{address}\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(project.parent / "pip.conf"))
    put(project, "requirements.txt", "mylib\n")


def uv_variable(project: Path, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_DEFAULT_INDEX", f"ours=http://{address}")
    monkeypatch.setenv("UV_INDEX_OURS_USERNAME", "reader")
    monkeypatch.setenv("UV_INDEX_OURS_PASSWORD", "s3cret")
    put(project, "requirements.txt", "mylib\n")


def uv_file(project: Path, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    put(project.parent, "config/uv/uv.toml", f'[[index]]\nname = "our-own"\nurl = "http://{address}"\ndefault = true\n')
    monkeypatch.setenv("UV_INDEX_OUR_OWN_USERNAME", "reader")
    monkeypatch.setenv("UV_INDEX_OUR_OWN_PASSWORD", "s3cret")
    put(project, "requirements.txt", "mylib\n")


def project_table(project: Path, address: str, **_: object) -> None:
    put(project, "requirements.txt", "mylib\n")
    put(project, "pyproject.toml", f'[[tool.uv.index]]\nurl = "http://reader:s3cret@{address}"\ndefault = true\n')


@pytest.mark.parametrize(
    "configure",
    [requirements_file, variable_in_file, netrc, pip_variable, pip_file, uv_variable, uv_file, project_table],
)
def test_a_private_index_serves_the_lock_and_the_download_and_its_password_is_kept_nowhere(
    project: Path, private: str, monkeypatch: pytest.MonkeyPatch, configure: object
) -> None:
    assert callable(configure)
    configure(project=project, address=private, monkeypatch=monkeypatch)
    cache = project.parent / "cache"
    lock = lock_of(project)
    assert named(lock) == {"mylib==1.0"}
    from praetor.build.wheels import fetch  # noqa: PLC0415

    found, lacking = fetch(lock.requirements, "cp313", lock.indexes, cache)
    assert ([wheel.name for wheel in found], lacking) == (["mylib"], [])
    for path in cache.rglob("*"):
        assert path.is_dir() or b"s3cret" not in path.read_bytes()


def test_an_index_that_refuses_is_not_a_missing_package_and_its_password_is_not_shown(
    project: Path, private: str
) -> None:
    put(project, "requirements.txt", f"-i http://reader:wr0ng@{private}\nmylib\n")
    with pytest.raises(ReleaseError, match="cannot be resolved") as caught:
        lock_of(project)
    assert "wr0ng" not in str(caught.value)


def test_several_indexes_are_looked_through_as_their_words_mean(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(project.parent, "pip.conf", "[global]\nextra-index-url = https://p.example/a https://p.example/b\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(project.parent / "pip.conf"))
    found = indexes.known(project, Indexes(default="https://d.example/", extra=["https://r.example/"])).variables()
    assert found["UV_INDEX"] == "https://d.example/ https://r.example/ https://p.example/a https://p.example/b"
    assert found["UV_INDEX_STRATEGY"] == "unsafe-best-match"
    assert found["PIP_EXTRA_INDEX_URL"] == "https://r.example/ https://p.example/a https://p.example/b"
    monkeypatch.setenv("UV_INDEX", "https://u.example/")
    found = indexes.known(project, Indexes(default="https://d.example/")).variables()
    assert found["UV_INDEX"].split()[:2] == ["https://u.example/", "https://d.example/"]
    assert found["UV_INDEX_STRATEGY"] == "first-index"
    assert found["PIP_INDEX_URL"] == found["UV_DEFAULT_INDEX"] == "https://d.example/"


def test_credentials_are_cut_out_of_what_is_shown() -> None:
    text = json.dumps({"a": "git+https://user:tok3n@x.example/a", "b": "https://tok3n@x.example/simple"})
    assert without_credentials(text) == '{"a": "git+https://x.example/a", "b": "https://x.example/simple"}'
