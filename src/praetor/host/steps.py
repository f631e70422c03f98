"""Does several steps on a host in one call, in order: each begins when the one before has ended, and none follows one that fails."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, TypedDict

from . import call


class Step(TypedDict):
    """One work: the module of this package, what it gets, and the package without which a dry run cannot judge it."""

    work: str
    params: dict[str, Any]
    needs: str


def work(*, check: bool, steps: list[Step]) -> dict[str, Any]:
    """Do each step, or find out what would be done (`check`).

    A step that `needs` a package which a dry run would install is not done: what it asks is not there yet. Behind a step that takes effect on trial, which
    says `undone_after_s`, nothing follows: who asked must confirm it first.

    Returns:
        `done`: for each step that was begun its `work`, whether it `changed` something, and what else it says.
        `diff` of all steps, `reason` of the one that failed, and `full`, the place, where that was for want of room.
    """
    done: list[dict[str, Any]] = []
    diff: list[Mapping[str, str]] = []
    missing: set[str] = set()
    failed: dict[str, Any] = {"reason": None}
    for step in steps:
        if check and step["needs"] in missing:
            done.append({"work": step["work"], "changed": False, "unjudged": step["needs"]})
            continue
        function: call.Work = importlib.import_module(f"{__package__}.{step['work']}").work
        result = call.answer(function, **step["params"], check=check)
        diff += _parts(result.pop("diff", None))
        # What kind of failure it is stays with its reason.
        failed = {key: result.pop(key) for key in ("reason", "full") if key in result}
        done.append({"work": step["work"], **result})
        missing.update(map(str, result.get("missing") or ()))  # type: ignore[call-overload]
        if failed["reason"] or (result.get("undone_after_s") and not check):
            break
    return {"changed": any(each["changed"] for each in done), **failed, "done": done, "diff": diff}


def _parts(diff: object) -> list[Mapping[str, str]]:
    """The parts of a step's diff; those without a difference are left out."""
    parts = diff if isinstance(diff, list) else [diff]
    return [part for part in parts if isinstance(part, Mapping) and part.get("before") != part.get("after")]
