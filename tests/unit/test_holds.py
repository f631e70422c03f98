"""What runs once in the fleet: noted by the host that has it, and after a boot started only when no other host has it."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import pytest
from project import ROOT

from praetor.host import holds

if TYPE_CHECKING:
    from praetor.host.layout import AppHost

HOSTS = {"app2": "192.0.2.2", "app3": "192.0.2.3"}


class Fleet:
    """Other hosts, each with what it answers; None does not."""

    def __init__(self) -> None:
        self.claims: dict[str, dict[str, float] | None] = {"192.0.2.2": {}, "192.0.2.3": {}}
        self.started: list[str] = []

    def ask(self, address: str, app: str) -> dict[str, float]:
        assert app == "api"
        found = self.claims[address]
        if found is None:
            raise OSError("timed out")
        return found


@pytest.fixture
def fleet() -> Fleet:
    return Fleet()


@pytest.fixture
def program(host: AppHost, fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Return the program of the boot, on a host that had `beat` and the job `nightly`."""
    loader = importlib.machinery.SourceFileLoader("holds_at_boot", str(ROOT / "roles/flask_app/files/holds-at-boot"))
    spec = importlib.util.spec_from_loader("holds_at_boot", loader)
    assert spec
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    loader.exec_module(module)
    for name, place in (("APPS", host.layout.apps), ("HELD", host.layout.held), ("UNITS", host.layout.units)):
        monkeypatch.setattr(module, name, place)
    monkeypatch.setattr(module, "ask", fleet.ask)
    monkeypatch.setattr(module.subprocess, "run", lambda command, **_: fleet.started.extend(command[3:]))
    for target, unit in (("multi-user", "app-api-beat-7@1.service"), ("timers", "app-api-nightly.timer")):
        (host.layout.units / f"{target}.target.wants").mkdir()
        (host.layout.units / f"{target}.target.wants" / unit).symlink_to("..")
    write(host.root / "processes.json", {"worker": 2, "beat": 1, "nightly": 1})
    write(host.root / "claims.json", {"beat": 100.0, "nightly": 100.0})
    return module


def write(path: Path, value: dict[str, float]) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")


def read(path: Path) -> dict[str, float]:
    return dict(json.loads(path.read_text(encoding="utf-8")))


def test_a_host_that_nobody_replaced_starts_what_it_had(program: ModuleType, fleet: Fleet) -> None:
    program.look("app1", HOSTS, set())
    assert sorted(fleet.started) == ["app-api-beat-7@1.service", "app-api-nightly.timer"]
    assert program.undecided() == {}


def test_what_was_given_to_another_host_never_starts_here(host: AppHost, program: ModuleType, fleet: Fleet) -> None:
    fleet.claims["192.0.2.3"] = {"beat": 200.0}
    program.look("app1", HOSTS, set())
    assert fleet.started == ["app-api-nightly.timer"]
    assert read(host.root / "processes.json") == {"worker": 2, "beat": 0, "nightly": 1}
    assert read(host.root / "claims.json") == {"nightly": 100.0}
    assert not list(host.layout.units.glob("*.wants/app-api-beat*")), "the next boot must not start it"


def test_a_host_that_does_not_answer_is_waited_for(program: ModuleType, fleet: Fleet) -> None:
    fleet.claims["192.0.2.2"] = None
    silent: set[str] = set()
    program.look("app1", HOSTS, silent)
    assert (fleet.started, silent) == ([], {"app2 (timed out)"})
    assert program.undecided() == {"api": ["beat", "nightly"]}
    fleet.claims["192.0.2.2"] = {"beat": 200.0}
    program.look("app1", HOSTS, silent)
    assert fleet.started == ["app-api-nightly.timer"]


def test_one_that_has_it_is_enough_to_know(program: ModuleType, fleet: Fleet) -> None:
    fleet.claims |= {"192.0.2.2": None, "192.0.2.3": {"beat": 200.0, "nightly": 200.0}}
    program.look("app1", HOSTS, set())
    assert (fleet.started, program.undecided()) == ([], {})


@pytest.mark.parametrize(
    ("own", "theirs", "holder"),
    [
        (100.0, {}, None),
        (100.0, {"app2": {"beat": 99.0}}, None),  # it has not heard yet that it was replaced
        (100.0, {"app2": {"beat": 100.0}}, None),
        (100.0, {"app0": {"beat": 100.0}}, "app0"),
        (100.0, {"app2": {"nightly": 500.0}}, None),
        (100.0, {"app2": {"beat": 150.0}, "app3": {"beat": 160.0}}, "app2"),
    ],
)
def test_whoever_took_it_last_has_it(
    program: ModuleType, own: float, theirs: dict[str, dict[str, float]], holder: str | None
) -> None:
    assert program.taken_by("app1", own, "beat", theirs) == holder


def test_of_two_that_boot_together_exactly_one_starts_it(program: ModuleType) -> None:
    for one, other in ((100.0, 200.0), (200.0, 100.0), (100.0, 100.0)):
        first = program.taken_by("app1", one, "beat", {"app2": {"beat": other}})
        second = program.taken_by("app2", other, "beat", {"app1": {"beat": one}})
        assert [first, second].count(None) == 1


def test_what_a_release_or_a_move_decides_is_noted_and_needs_no_question(host: AppHost, program: ModuleType) -> None:
    holds.take(host, {"worker": 2, "beat": 1, "nightly": 0}, ["beat", "nightly"])
    assert read(host.root / "claims.json") == {"beat": 100.0}, "since when is kept"
    assert [path.name for path in host.layout.held.iterdir()] == ["api-beat"]
    assert program.undecided() == {}
    holds.take(host, {"beat": 0, "nightly": 1}, ["beat", "nightly"])
    assert list(read(host.root / "claims.json")) == ["nightly"]
    assert read(host.root / "claims.json")["nightly"] > 100.0
    assert [path.name for path in host.layout.held.iterdir()] == ["api-nightly"]


def test_what_runs_once_waits_for_the_answer_and_nothing_else_does() -> None:
    templates = ROOT / "roles/flask_app/templates"
    for name, condition in (("process.service.j2", "process.one"), ("job.timer.j2", "job.on == 'once'")):
        text = (templates / name).read_text(encoding="utf-8")
        before, _, after = text.partition("ConditionPathExists=/run/praetor/held/{{ app.name }}-{{")
        assert before.rstrip().splitlines()[-2] == f"{{% if {condition} %}}"
        assert after.partition("\n")[2].startswith("{% endif %}")
