"""An app is removed with all that it had, but not from under a run."""

from pathlib import Path

import pytest
from fakes import a_run, put_release, put_slot

from praetor.host import removal
from praetor.host.journal import LockedError, phase
from praetor.host.layout import AppHost


@pytest.fixture
def released(host: AppHost, monkeypatch: pytest.MonkeyPatch) -> AppHost:
    """Return a host where a release is live."""
    monkeypatch.setattr(removal, "AppHost", lambda _: host)
    put_release(host, "1-a")
    host.flip(put_slot(host, "1-a", 1))
    return host


@pytest.mark.usefixtures("emperor", "released")
def test_nothing_is_left_and_twice_is_once(place: Path) -> None:
    assert removal.work(app="api", drain_s=3) == {"changed": True, "retired": ["api.1-a.1"]}
    assert removal.work(app="api", drain_s=3) == {"changed": False, "retired": []}
    assert [path for path in place.rglob("*api*") if path.exists()] == []


def test_an_app_is_not_removed_from_under_a_run(released: AppHost) -> None:
    with phase(released, a_run("r1"), "lock", begins=True), pytest.raises(LockedError, match="api is locked by"):
        removal.work(app="api", drain_s=1)
    assert released.live() is not None
