"""Which variant of the sample this is."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path

DATA = Path(os.environ["APP_DATA_DIR"])
_PROJECT = tomllib.loads((Path(__file__).parent / "pyproject.toml").read_text(encoding="utf-8"))
VERSION: str = _PROJECT["project"]["version"]
PACE_S: float = _PROJECT["tool"]["sample"]["pace_s"]


def is_broken(how: str) -> bool:
    """Whether this variant has a fault, here."""
    settings = _PROJECT["tool"]["sample"]
    return bool(settings["fault"] == how and (not settings["marked_only"] or (DATA / "marked").exists()))
