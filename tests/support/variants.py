"""The app that scenarios release: its names, and versions of it with and without faults."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from project import ROOT

HERE = Path(__file__).resolve().parent
SCENARIO = ROOT / "molecule" / "releases"
INVENTORY = SCENARIO / "inventory"
APP, SITE = "sample", "sample.lab.example"
PATIENCE_S = 1500  # for one playbook, on a machine with a lot to do
WAIT_S = 600  # for one thing that a host or a playbook does


@dataclass(frozen=True)
class Variant:
    """A version of the sample, in a separate directory."""

    version: str
    path: Path

    @property
    def prefix(self) -> str:
        """How the names of its releases begin."""
        return f"{self.version}-"

    @classmethod
    def make(cls, version: str, path: Path, fault: str, *, marked_only: bool, pace_s: float) -> Variant:
        """Write a version of the sample, with or without a fault, to a directory."""
        shutil.copytree(SCENARIO / "sample", path, ignore=shutil.ignore_patterns("__pycache__"))
        project = path / "pyproject.toml"
        text = project.read_text(encoding="utf-8")
        for old, new in (
            ('version = "0"', f'version = "{version}"'),
            ('fault = ""', f'fault = "{fault}"'),
            ("marked_only = false", f"marked_only = {str(marked_only).lower()}"),
            ("pace_s = 0", f"pace_s = {pace_s}"),
        ):
            assert text.count(old) == 1, old
            text = text.replace(old, new)
        project.write_text(text, encoding="utf-8")
        return cls(version, path)
