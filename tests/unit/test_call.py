"""The entry point on a host: each expected error is a sentence, and none is a failed task of one host alone."""

import errno
import io
import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest
from fakes import a_run

from praetor.documents import Journal
from praetor.host import call
from praetor.host.full import FullError
from praetor.host.journal import LockedError
from praetor.host.layout import BakeError, ReleaseError


def answer_to(error: Exception) -> Any:
    """What is reported of work that fails."""

    def work() -> NoReturn:
        raise error

    return call.answer(work)


def test_the_umask_of_a_host_is_no_matter(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def work() -> dict[str, object]:
        (tmp_path / "directory").mkdir()
        return {}

    monkeypatch.setitem(sys.modules, "praetor.host.sample", SimpleNamespace(work=work))
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b'{"work": "sample", "params": {}}')))
    before = os.umask(0o077)
    try:
        call.main()
    finally:
        os.umask(before)
    assert (tmp_path / "directory").stat().st_mode & 0o777 == 0o755


def test_work_is_named_and_gets_its_parameters(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = SimpleNamespace(work=lambda *, app: {"live": app})
    monkeypatch.setitem(sys.modules, "praetor.host.sample", module)
    asked = json.dumps({"work": "sample", "params": {"app": "ü"}}, ensure_ascii=False)
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(asked.encode())))
    call.main()
    assert json.loads(capsys.readouterr().out) == {"changed": False, "reason": None, "live": "ü"}


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ReleaseError("a sentence"), "a sentence"),
        (OSError(errno.ENOSPC, "kein Platz"), "kein Platz. What is live goes on serving"),
        (OSError(errno.EIO, "Input/output"), "Input/output. What is live goes on serving."),
        (KeyError("oops"), "unexpected, please report it:\nTraceback"),
    ],
)
def test_an_error_is_a_reason_in_words(error: Exception, expected: str) -> None:
    found = answer_to(error)
    assert expected in found["reason"]
    assert found["changed"] is True


@pytest.mark.parametrize(
    ("error", "full"),
    [
        (FullError(Path("/"), "staging"), "/"),
        (OSError(errno.EDQUOT, "kein Platz", "/srv/a"), "/srv/a"),
        (OSError(errno.ENOSPC, "kein Platz"), "the host"),
        (OSError(errno.EIO, "No space left on device"), None),
        (ReleaseError("No space left on device"), None),
    ],
)
def test_a_full_disk_is_told_by_its_number_and_not_by_a_text(error: Exception, full: str | None) -> None:
    assert answer_to(error).get("full") == full


@pytest.mark.parametrize(("error", "bad"), [(BakeError("5xx"), True), (ReleaseError("no"), False)])
def test_only_traffic_makes_a_release_bad(error: Exception, bad: bool) -> None:  # noqa: FBT001
    assert answer_to(error)["bad"] is bad


def test_a_lock_comes_with_its_holder() -> None:
    holder: Journal = {"run": a_run("r1"), "phase": "gate", "since": 1.0, "expires": 2.0}
    assert answer_to(LockedError("locked", holder)) == {"changed": False, "reason": "locked", "holder": holder}
