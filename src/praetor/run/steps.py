"""Checks the list of steps in a role. Runs on the controller."""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from praetor.host.steps import Step

from .arguments import spec_of

# Modules of `praetor.host`; what each takes is said by its `work`.
WORKS = frozenset(
    {
        "current_unit",
        "debian_packages",
        "directories",
        "foreign_services",
        "login",
        "room",
        "secret_files",
        "site",
        "text_files",
        "trial_file",
        "withdrawn",
    }
)


def read(given: Sequence[Mapping[str, Any]]) -> list[Step]:
    """The steps of a task: each has one work with its arguments, and may say `when` it is done and which package it `needs`.

    Raises:
        AnsibleActionFail: a step is something else, with its place.
    """
    steps = [_step(f"steps[{place}]", step) for place, step in enumerate(given)]
    return [step for step in steps if step]


def _step(place: str, step: Mapping[str, Any]) -> Step | None:
    """A step; none where its condition does not hold."""
    works = [str(key) for key in step if key not in {"when", "needs"}]
    if len(works) != 1 or works[0] not in WORKS:
        found = ", ".join(works) or "nothing"
        raise AnsibleActionFail(f"{place}: found {found}, expected one of {', '.join(sorted(WORKS))}")
    # An empty text or list would leave a step out without a word.
    if not isinstance(step.get("when", True), bool):
        raise AnsibleActionFail(f"{place}.when: found {step['when']!r}, expected true or false")
    [name] = works
    checked = _validator(name).validate(dict(step[name]))
    if checked.error_messages:
        raise AnsibleActionFail(f"{place}.{name}: {'; '.join(checked.error_messages)}")
    if not step.get("when", True):
        return None
    return {"work": name, "params": dict(checked.validated_parameters), "needs": str(step.get("needs", ""))}


@functools.cache
def _validator(name: str) -> ArgumentSpecValidator:
    work: Callable[..., object] = importlib.import_module(f"praetor.host.{name}").work
    return ArgumentSpecValidator({key: spec for key, spec in spec_of(work).items() if key != "check"})
