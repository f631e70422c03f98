"""The text format of Prometheus, version 0.0.4."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Labels = tuple[tuple[str, str], ...]


def escape(value: str) -> str:
    """Escape a label value."""
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def sample_prefix(name: str, labels: Labels) -> str:
    """Everything of a sample's line that comes before its value."""
    inner = ",".join(f'{key}="{escape(value)}"' for key, value in labels)
    return f"{name}{{{inner}}} " if inner else f"{name} "


def number(value: float) -> str:
    """Write a value as the text format does."""
    if math.isfinite(value):
        return str(int(value)) if value == int(value) and abs(value) < 1e15 else repr(float(value))
    if math.isnan(value):
        return "NaN"
    return "+Inf" if value > 0 else "-Inf"


@dataclass
class Family:
    """A metric with all its samples, as lines."""

    kind: str
    text: str
    lines: list[str] = field(default_factory=list)


class Exposition:
    """The answer to one scrape: every family once, its samples together."""

    def __init__(self) -> None:
        """Start empty."""
        self.families: dict[str, Family] = {}

    def family(self, name: str, kind: str, text: str) -> Family:
        """Find or make a family.

        Raises:
            ValueError: the name is taken by a family of another type.

        """
        found = self.families.get(name)
        if found is None:
            found = self.families[name] = Family(kind, text)
        if found.kind != kind:
            raise ValueError(f"{name} is a {found.kind} elsewhere and a {kind} here")
        return found

    def add(self, kind: str, name: str, text: str, value: float, labels: Labels = ()) -> None:
        """Add one sample."""
        self.family(name, kind, text).lines.append(sample_prefix(name, labels) + number(value))

    def render(self) -> bytes:
        """Write the text format, version 0.0.4."""
        parts: list[str] = []
        for name, family in self.families.items():
            if family.lines:
                text = family.text.replace("\\", r"\\").replace("\n", r"\n") or "Metric of an application."
                parts += (f"# HELP {name} {text}", f"# TYPE {name} {family.kind}", *family.lines)
        parts.append("")
        # An application's label may hold a lone surrogate, which UTF-8 cannot say.
        return "\n".join(parts).encode("utf-8", errors="replace")
