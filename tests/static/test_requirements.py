"""The locked requirements: pinned, hashed, and free of the machine that locked them."""

import re
import tomllib

import pytest
from project import ROOT, files_of

LOCKS = [
    path.relative_to(ROOT).as_posix()
    for path in files_of("requirements/*.txt", "app/requirements*.txt", "roles/*/files/**/requirements*.txt")
]
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def normal(name: str) -> str:
    """Return a package name as the index compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def entries(lock: str) -> list[str]:
    """Return what a lock says about each package: its pin, and the hashes in the lines after it."""
    text = (ROOT / lock).read_text(encoding="utf-8")
    return [entry for entry in re.split(r"^(?=\S)", text, flags=re.MULTILINE) if entry.strip() and entry[0] != "#"]


def test_there_are_locks_for_controller_tools_and_app() -> None:
    assert {"requirements/controller.txt", "requirements/dev.txt", "app/requirements.txt"} <= set(LOCKS)


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_names_no_index_and_no_directory(lock: str) -> None:
    text = (ROOT / lock).read_text(encoding="utf-8")
    assert not re.search(r"://|^\s*(-i|-f|--\w*index\S*|--find-links|--trusted-host)\b|\s/[a-z]+/", text, re.MULTILINE)


@pytest.mark.parametrize("lock", LOCKS)
def test_every_package_of_a_lock_is_pinned_with_hashes(lock: str) -> None:
    found = entries(lock)
    assert found
    for entry in found:
        assert re.match(r"[A-Za-z0-9._-]+(\[[a-z0-9,_-]+\])?==\S+", entry), entry.splitlines()[0]
        assert "--hash=sha256:" in entry, entry.splitlines()[0]


@pytest.mark.parametrize("name", ["controller", "dev"])
def test_a_lock_holds_what_is_asked_for(name: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    groups = project["dependency-groups"]
    asked = project["project"]["dependencies"] + groups["build"] + (groups["dev"] if name == "dev" else [])
    wanted = {normal(match[0]) for line in asked if (match := NAME.match(line))}
    locked = {normal(entry.partition("==")[0]) for entry in entries(f"requirements/{name}.txt")}
    assert wanted
    assert wanted - locked == set()


def test_tools_and_controller_agree_on_versions() -> None:
    def pins(name: str) -> set[str]:
        text = (ROOT / f"requirements/{name}.txt").read_text(encoding="utf-8")
        return set(re.findall(r"^([a-z0-9._-]+==[^\s;]+)", text, re.MULTILINE))

    assert pins("controller") - pins("dev") == set()
