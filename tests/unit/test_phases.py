"""What the phases are told."""

import base64
from pathlib import Path
from typing import Any

import pytest
from fakes import a_run

from praetor.host import debian_packages, phases
from praetor.host import stage as stages
from praetor.host.layout import AppHost


@pytest.fixture
def brought(host: AppHost, monkeypatch: pytest.MonkeyPatch) -> list[bytes | None]:
    """Return what arrives of the files that a host does not have."""
    found: list[bytes | None] = []

    def stage(_: Any, __: Any, ___: Any, files: Any, checks: list[list[str]]) -> bool:
        assert checks == []
        found.append(files and files.read())
        return True

    monkeypatch.setattr(phases, "AppHost", lambda _: host)
    monkeypatch.setattr(stages, "stage", stage)
    return found


@pytest.mark.parametrize("how", ["uploads", "sent", "nothing"])
def test_files_come_before_the_phase_or_with_it(brought: list[bytes | None], place: Path, how: str) -> None:
    (place / "files.tar").write_bytes(b"a tar")
    given: dict[str, Any] = {"secrets": {}, "manifest": {}, "parts": {}, "checks": []}
    given |= {"uploads": str(place / "files.tar")} if how == "uploads" else {}
    given |= {"sent": base64.b64encode(b"a tar").decode()} if how == "sent" else {}
    assert phases.work(app="api", run=a_run("r1"), phase="stage", told={**given, "drain_s": 1.0})["staged"] is True
    assert brought == [None if how == "nothing" else b"a tar"]


def test_the_debian_packages_of_this_hosts_python_come_with_the_stage(
    brought: list[bytes | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted: list[list[str]] = []

    def work(*, check: bool, name: list[str]) -> dict[str, Any]:
        assert (check, brought) == (False, []), "before the files: checks run with them"
        wanted.append(name)
        return {"changed": True}

    monkeypatch.setattr(debian_packages, "work", work)
    packages = {stages.python_tag(): ["libpq5"], "cp000": ["other"]}
    given: dict[str, Any] = {"secrets": {}, "parts": {}, "checks": [], "drain_s": 1.0}
    told = {**given, "manifest": {"packages": packages, "settings": {}}}
    assert phases.work(app="api", run=a_run("r1"), phase="stage", told=told)["changed"] is True
    assert wanted == [["libpq5"]]
