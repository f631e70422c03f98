"""The frame of the modules: each foreseen error is a sentence, and none is a failed task of one host alone."""

import errno
from typing import Any, NoReturn

import pytest
from praetor import call
from praetor.host import ReleaseError
from praetor.journal import LockedError


class Exit(Exception):  # noqa: N818  what exit_json does
    """A module that has ended."""


class FakeModule:
    """An AnsibleModule without a controller."""

    params = {"app": "api"}  # noqa: RUF012  read only

    def __init__(self, **_: Any) -> None:
        """Take the arguments."""

    def exit_json(self, **result: Any) -> NoReturn:
        """End, as the real one does."""
        raise Exit(result)


def result_of(work: Any, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Run a module's work; what it reports."""
    monkeypatch.setattr(call, "AnsibleModule", FakeModule)
    with pytest.raises(Exit) as caught:
        call.run({}, work)
    found: dict[str, Any] = caught.value.args[0]
    return found


def test_a_result_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    assert result_of(lambda params: {"live": params["app"]}, monkeypatch) == {
        "changed": False,
        "problem": None,
        "live": "api",
    }


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ReleaseError("a sentence"), "a sentence"),
        (OSError(errno.ENOSPC, "No space"), "No space; make room on the file system and run again. What is live goes"),
        (OSError(errno.EIO, "Input/output"), "Input/output. What is live goes on serving."),
        (KeyError("oops"), "unexpected, please report it:\nTraceback"),
    ],
)
def test_an_error_is_a_problem_in_words(monkeypatch: pytest.MonkeyPatch, error: Exception, expected: str) -> None:
    def work(_: dict[str, Any]) -> NoReturn:
        raise error

    found = result_of(work, monkeypatch)
    assert expected in found["problem"]
    assert found["changed"] is True


def test_a_lock_comes_with_its_holder(monkeypatch: pytest.MonkeyPatch) -> None:
    def work(_: dict[str, Any]) -> NoReturn:
        raise LockedError("locked", {"run": {"id": "r1"}})

    found = result_of(work, monkeypatch)
    assert found == {"changed": False, "problem": "locked", "holder": {"run": {"id": "r1"}}}
