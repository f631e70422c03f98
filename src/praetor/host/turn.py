"""Whose turn it is to take hosts out: the lock of a run of maintain, drain or undrain. It lies on what every such run has to ask."""

from __future__ import annotations

import pathlib
from typing import TYPE_CHECKING, Literal

from . import journal as journals
from .layout import AppHost, Layout

if TYPE_CHECKING:
    from praetor.documents import PhaseAnswer, Run

PLACE = pathlib.Path("/var/lib/praetor")  # outlives a reboot, as the run does


def work(
    *, wanted: Literal["take", "leave"], run: Run, phase: str, break_run: str | None = None, place: pathlib.Path = PLACE
) -> PhaseAnswer:
    """Take the turn or renew it, noting what the run is doing; or give it up.

    Raises:
        LockedError: another run has it.
    """
    fleet = AppHost("fleet", Layout(apps=place))
    if wanted == "leave":
        return {"changed": journals.unlock(fleet, run["id"])}
    before = journals.holds(fleet, run["id"])
    # Taken again where it was lost: nothing of such a run is undone by another one, and what each step may do it asks for.
    with journals.phase(fleet, run, phase, break_run, begins=True):
        return {"changed": not before}
