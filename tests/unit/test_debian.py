"""What is published as source and compiles: made once per Debian release, in a clean tree of it, by nobody."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from praetor.build import cache as caches
from praetor.build import debian, wheels
from praetor.build.indexes import Indexes
from praetor.build.sources import Source
from praetor.host.layout import ReleaseError

# Minutes, for packages are installed into a tree: asked for by name, PRAETOR_COMPILE=1 pytest tests/unit/test_debian.py
HAS_TREE = "PRAETOR_COMPILE" in os.environ and os.geteuid() == 0 and any(debian.BASES.glob("bookworm-????????"))
SETUP = """
from setuptools import Extension, setup
setup(name="swift", version="1.0", ext_modules=[Extension("swift", ["swift.c"], libraries=["bz2"])])
"""
CODE = """
#include <Python.h>
#include <bzlib.h>
static PyObject *version(PyObject *self, PyObject *none) { return PyUnicode_FromString(BZ2_bzlibVersion()); }
static PyMethodDef methods[] = {{"version", version, METH_NOARGS, ""}, {NULL, NULL, 0, NULL}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "swift", NULL, -1, methods};
PyMODINIT_FUNC PyInit_swift(void) { return PyModule_Create(&module); }
"""


@pytest.fixture
def project(place: Path) -> Source:
    """Return a project that compiles a module and links it with a library."""
    (place / "setup.py").write_text(SETUP, encoding="utf-8")
    (place / "swift.c").write_text(CODE, encoding="utf-8")
    return Source(place, (Path("setup.py"), Path("swift.c")), None, dirty=False, described=None, at=place)


def made(project: Source, cache: Path, packages: list[str]) -> dict[str, caches.Wheel]:
    return wheels.made_of_tree(project, "key", ["cp311"], Indexes(asks_pip=True), packages, cache, "1.0")


@pytest.mark.skipif(
    not HAS_TREE, reason="takes minutes, root and a Debian tree (`make lab` makes one): PRAETOR_COMPILE=1"
)
def test_what_compiles_is_made_in_a_debian_tree(project: Source, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The controller's own compiler and headers, if it has any, do not count.
    monkeypatch.setenv("CC", "/nonexistent/gcc")
    cache = place / "cache"
    with pytest.raises(ReleaseError, match=r"(?s)cannot build a wheel of .* on Debian \(bookworm\).*bzlib\.h"):
        made(project, cache, [])
    wheel = made(project, cache, ["libbz2-dev"])["cp311"]
    assert wheel.file == "swift-1.0-cp311-cp311-linux_x86_64.whl"
    assert wheel.needs == ()  # a plain Debian has libbz2
    monkeypatch.setattr(debian, "made", lambda *_, **__: pytest.fail("compiled again"))
    assert made(project, cache, ["libbz2-dev"])["cp311"] == wheel


@pytest.mark.skipif(
    not HAS_TREE, reason="takes minutes, root and a Debian tree (`make lab` makes one): PRAETOR_COMPILE=1"
)
def test_a_package_that_debian_does_not_have_is_named(place: Path) -> None:
    with pytest.raises(ReleaseError, match="build_packages: Debian has no no-such-package-x"):
        debian.prepared("cp311", ["no-such-package-x"], place, "it compiles something")
    assert not [path for path in (place / "debian").iterdir() if path.is_dir()]


@pytest.mark.skipif(
    os.geteuid() != 0 or not any(debian.BASES.glob("bookworm-????????")),
    reason="takes root and a Debian tree (`make lab` makes one)",
)
def test_the_controllers_pip_runs_in_a_tree_and_leaves_what_it_made(place: Path) -> None:
    base = max(debian.BASES.glob("bookworm-????????"), key=lambda path: path.stat().st_mtime)
    # Not shutil: it would read the devices.
    subprocess.run(["cp", "-a", "--reflink=auto", str(base), str(place / "tree")], check=True)
    (place / "build").mkdir()
    tree, where = debian.Tree("bookworm", place / "tree", frozenset()), place / "build/out/seen"
    tree.pip(["--version", "--log", "/build/out/log"], place / "build", Indexes(asks_pip=True), "pip does not start")
    look = "import os; open('out/seen', 'w').write(' '.join([os.getcwd(), os.environ['TMPDIR'], str(os.getuid())]))"
    assert tree.run(["python3", "-c", look], place / "build", {"PATH": "/usr/bin"}).returncode == 0
    assert (where.read_text(encoding="utf-8"), where.stat().st_uid) == ("/build /build/tmp 65534", os.getuid())
    assert tree.linked(place / "build") == ()


@pytest.mark.parametrize(
    ("missing", "words"),
    [("unshare", "lacks unshare and setpriv"), ("base", "lacks a tree of trixie in .*`make lab` makes it")],
)
def test_a_controller_that_cannot_compile_says_what_it_lacks(
    place: Path, monkeypatch: pytest.MonkeyPatch, missing: str, words: str
) -> None:
    which = shutil.which
    monkeypatch.setattr(debian, "_as_root", lambda command: subprocess.CompletedProcess(command, 0, "", ""))
    monkeypatch.setattr(shutil, "which", lambda name: None if name == missing else which(name))
    monkeypatch.setattr(debian, "BASES", place / "none")
    with pytest.raises(ReleaseError, match=rf"(?s)it compiles something.*this controller {words}"):
        debian.prepared("cp313", [], place, "it compiles something")
