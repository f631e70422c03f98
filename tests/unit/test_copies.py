"""A release is copied off a host as it was staged there, for hosts that are behind."""

from pathlib import Path
from typing import Any

import pytest
from fakes import manifest_of, put_release
from project import imported
from wheel import make_wheel, sha256

from praetor.build.cache import place as place_in
from praetor.documents import Manifest
from praetor.host import copies
from praetor.host.layout import AppHost, ReleaseError
from praetor.host.stage import python_tag

TAG = python_tag()
COPY = imported("plugins/action/app_copy.py").ActionModule


@pytest.fixture(autouse=True)
def here(host: AppHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the host of the test the one that is asked."""
    monkeypatch.setattr(copies, "AppHost", lambda _: host)


def test_a_release_that_is_gone_is_named(host: AppHost) -> None:
    assert host.manifest("9-x") is None
    with pytest.raises(ReleaseError, match="9-x is gone from this host"):
        copies.work(app="api", release="9-x")


def copied(monkeypatch: pytest.MonkeyPatch, host: AppHost, manifest: Manifest, cache: Path) -> dict[str, Any]:
    """Return what the action makes of a release on the host, which has its files but for those of other Pythons."""
    put_release(host, "1-a", wheels=manifest["wheels"])
    answers = {"manifest": manifest, "parts": {}, "secrets": {"TOKEN": "s3cret"}}

    def on_host(_: Any, asked: dict[str, Any]) -> Any:
        return copies.work(**asked) if asked["file"] else answers

    monkeypatch.setattr(COPY, "on_host", on_host)
    asked = {"app": "api", "release": "1-a", "tags": [TAG], "cache": str(cache)}
    return dict(object.__new__(COPY).do(asked))


def test_a_controller_that_has_never_seen_a_release_gets_its_files_from_the_host(
    host: AppHost, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = make_wheel(place / "built", "tiny", "2.0")
    digest = sha256(wheel)
    (host.wheels / digest).mkdir(parents=True)
    (host.wheels / digest / wheel.name).write_bytes(wheel.read_bytes())
    wheels = {TAG: [{"file": wheel.name, "sha256": digest}], "cp300": [{"file": "o.whl", "sha256": "00"}]}
    found = copied(monkeypatch, host, manifest_of("1-a", wheels=wheels), place / "cache")
    kept = place_in(str(place / "cache")) / "wheels" / digest / wheel.name
    assert kept.read_bytes() == wheel.read_bytes()
    assert found["files"][digest] == str(kept)
    assert found["_ansible_no_log"] is True, "a secret would be shown"


def test_a_file_that_nobody_has_ends_the_run_in_words(
    host: AppHost, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheels = {TAG: [{"file": "lost.whl", "sha256": "aa"}]}
    found = copied(monkeypatch, host, manifest_of("1-a", wheels=wheels), place / "cache")
    assert found["failed"]
    assert "lost.whl is neither in this controller's cache nor on a host" in found["msg"]
    assert "s3cret" not in str(found)
