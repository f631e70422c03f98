"""What the plan tells a phase is what the phase asks for."""

import inspect
from typing import Any

import pytest
from project import imported

from praetor.host.phases import PHASES
from praetor.run.told import told

# Known in a run only, so that its tasks say it.
FROM_TASKS = {"secrets", "slot"}
BEGINNING = imported("plugins/action/app_phase.py").BEGINNING
OPTIONS = {"drain_s": 60, "keep": 3, "bake_s": 1}
RELEASE = {"id": "1-a", "app": "api", "options": OPTIONS, "server_name": "api.example", "places": {"web1": {}}}
PLAN: dict[str, Any] = {
    "run": {"id": "r1"},
    "releases": [{**RELEASE, "manifest": {}, "parts": {}, "files": {}, "commands": {"check": [], "migrate": []}}],
}


@pytest.mark.parametrize("phase", PHASES)
def test_a_phase_is_told_what_it_asks_for(phase: str) -> None:
    run, found = told(phase, PLAN, "api", "web1")
    assert run == PLAN["run"]
    asked = list(inspect.signature(PHASES[phase]).parameters.values())[2:]
    given = found.keys() - BEGINNING.get(phase, {}).keys()
    assert given <= {each.name for each in asked}
    assert {each.name for each in asked if each.default is each.empty} <= given | FROM_TASKS


def test_a_phase_of_which_nothing_is_said_is_refused() -> None:
    with pytest.raises(LookupError, match="nothing says what phase warm is told"):
        told("warm", PLAN, "api", "web1")
