"""The systems that hosts may run, as a build needs to know them: by the tag that a host answers with, its Python and its processor."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class System:
    """A Debian release on a kind of processor."""

    suite: str  # Debian's code name
    python: str
    exact: str  # the Python that it has; markers ask for it
    glibc: tuple[int, int]
    machine: str  # as uname has it, and as wheels are named for

    @property
    def name(self) -> str:
        """What operators read, and what they may name after `-e pythons=`."""
        return self.python if self.machine == USUAL else f"{self.python}-{self.machine}"

    @property
    def abi(self) -> str:
        """The part of a wheel's name that says its Python."""
        return f"cp{self.python.replace('.', '')}"

    @property
    def minor(self) -> int:
        """The second number of its Python."""
        return int(self.python.partition(".")[2])

    @property
    def platforms(self) -> list[str]:
        """The platforms of wheels that run there, the newest first, PEP 600."""
        major, newest = self.glibc
        found = [f"manylinux_{major}_{minor}_{self.machine}" for minor in range(newest, OLDEST[self.machine] - 1, -1)]
        return [*found, *(f"{old}_{self.machine}" for old in _NAMED[self.machine]), f"linux_{self.machine}"]

    def __str__(self) -> str:
        """The system in a sentence."""
        return f"Python {self.python} on {self.machine}"


USUAL = "x86_64"  # its tags are those of wheels, without a word for the processor
OLDEST = {"x86_64": 5, "aarch64": 17}  # the first glibc 2 that wheels are made for there
_NAMED = {"x86_64": ["manylinux2014", "manylinux2010", "manylinux1"], "aarch64": ["manylinux2014"]}  # before PEP 600
_DEBIANS = (("bookworm", "3.11", "3.11.2", (2, 36)), ("trixie", "3.13", "3.13.5", (2, 41)))

SYSTEMS = {
    f"cp{python.replace('.', '')}{'' if machine == USUAL else f'-{machine}'}": System(
        suite, python, exact, glibc, machine
    )
    for machine in (USUAL, "aarch64")
    for suite, python, exact, glibc in _DEBIANS
}
# Whoever builds without knowing hosts builds for these.
WITHOUT_HOSTS = tuple(tag for tag, system in SYSTEMS.items() if system.machine == USUAL)


def named(tags: Sequence[str]) -> str:
    """Systems in a sentence: 3.11 and 3.13."""
    return " and ".join(SYSTEMS[tag].name for tag in tags)


def on_this_processor(tags: Sequence[str]) -> list[str]:
    """The systems that have the same Pythons on this controller's processor."""
    pythons = {SYSTEMS[tag].python for tag in tags}
    return [tag for tag, system in SYSTEMS.items() if system.python in pythons and runs_here(tag)]


def runs_here(tag: str) -> bool:
    """Whether programs for a system run on this controller's processor."""
    return SYSTEMS[tag].machine == platform.machine()
