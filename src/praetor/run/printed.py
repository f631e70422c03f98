"""Tables for people: 80 columns wide, with what several hosts have in common said once, and a mark at what differs. Runs on the controller."""

from __future__ import annotations

import importlib.metadata
import re
import textwrap
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .notes import notes
from .story import MOST_ROWS, WIDTH, listed, together
from .tables import Row, demo, history, status

if TYPE_CHECKING:
    from praetor.documents import Surveys

MARK = "!"
SHORT = 12  # of a release's version and an app's name, where nothing else helps
SHORTENED = ("app", "live", "to")
_RELEASE = re.compile(r"(.+)(-[0-9a-f]{8})")


@dataclass(frozen=True)
class Line:
    """A row as it is printed."""

    cells: Row
    marked: bool = False
    below: tuple[str, ...] = ()  # what has no column


def text(table: str, surveys: Surveys) -> str:
    """One table with its notes; below `status` stands which version of this project shows it."""
    version = [f"Praetor {importlib.metadata.version('praetor')}"] if table == "status" else []
    return "\n".join([*PRINTED[table](surveys), *_once(notes(surveys), list(surveys)), *version])


def _status(surveys: Surveys) -> list[str]:
    """Sort by app; mark a host that serves something else than most, or is not well."""
    rows = sorted(status(surveys), key=lambda row: str(row["app"]))
    usual = {app: _most(row["live"] for row in rows if row["app"] == app) for app in {row["app"] for row in rows}}
    lines = []
    many = len({row["host"] for row in rows}) > MOST_ROWS
    for same in _alike(rows, ("host", "since", "workers") if many else ()):
        row = same[0]
        columns = {**row, "host": _hosts(same, 2), "since": _minute(min(str(each["since"]) for each in same))}
        if many:  # how busy each is would make each another one
            columns["workers"] = ", ".join(sorted({str(each["workers"]).partition(" ")[0] for each in same}))
        health = columns.pop("health")
        lines.append(Line({**columns, "health": health}, row["live"] != usual[row["app"]] or health != "healthy"))
    return fitted(lines)


def _history(surveys: Surveys) -> list[str]:
    """What one run did on several hosts is one row; mark what did not go well."""
    lines = []
    for same in _alike(history(surveys), ("host", "when", "seconds")):
        row = same[0]
        well = row["result"] in {"ok", "-"}
        columns = {
            "when": _minute(row["when"]),
            "app": row["app"],
            "action": row["action"] if well else f"{row['action']} {row['result']}",
            "to": row["to"],
            "s": max((each["seconds"] for each in same), key=_number),
            "hosts": _hosts(same, 3),
        }
        before = f"from {row['from']} " if row["from"] != "-" else ""
        said = [f"{before}by {row['by']}{': ' * bool(row['why'])}{row['why']}", str(row["reason"])]
        lines.append(Line(columns, not well, tuple(each for each in said if each and each != "by -")))
    return fitted(lines)


# A line to try is copied: it stays in one piece.
PRINTED: dict[str, Callable[[Surveys], list[str]]] = {
    "status": _status,
    "history": _history,
    "demo": lambda surveys: [render(demo(surveys))],
}


def _alike(rows: Iterable[Row], apart: Sequence[str]) -> list[list[Row]]:
    """Groups of rows that are equal, except for the columns in `apart`; in the order of the first row of each."""
    found: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        found.setdefault(tuple(str(value) for name, value in row.items() if name not in apart), []).append(row)
    return list(found.values())


def _hosts(rows: Iterable[Row], most: int) -> str:
    return listed([str(row["host"]) for row in rows], most)


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


def _once(said: Iterable[str], hosts: Sequence[str]) -> list[str]:
    """Merge notes that say the same about several hosts into one."""
    parts = [each.partition(": ") for each in said]
    of_hosts = [(host, text) for host, _, text in parts if host in hosts]
    return [f"{name}: {text}" for name, _, text in parts if name not in hosts] + together(of_hosts)


def _most(values: Iterable[object]) -> object:
    return Counter(values).most_common(1)[0][0]


def _minute(moment: object) -> str:
    """A moment without its seconds: 2026-11-26 09:40."""
    return str(moment)[:16].replace("T", " ")


def _shorter(value: object) -> str:
    """A release with the end of its version left out, or another long word; what tells releases apart stays."""
    word = str(value)
    found = _RELEASE.fullmatch(word)
    head, tail = (found[1], found[2]) if found else (word, "")
    return word if len(head) <= SHORT else f"{head[: SHORT - 2]}..{tail}"


def fitted(lines: Sequence[Line], width: int = WIDTH) -> list[str]:
    """Set lines into columns, the last one as wide as there is room; what does not fit goes below its row, whole."""
    if not lines:
        return ["(nothing)"]
    lead = 2 if any(line.marked for line in lines) else 0
    names = [name for name in lines[0].cells if any(line.cells[name] != "-" for line in lines)]
    cells = [[str(line.cells[name]) for name in names] for line in lines]
    widths = _widths([names, *cells])
    room = width - lead - sum(widths[:-1]) - 2 * (len(names) - 1)
    if room < len(names[-1]):
        cells = [
            [_shorter(cell) if name in SHORTENED else cell for name, cell in zip(names, row, strict=True)]
            for row in cells
        ]
        widths = _widths([names, *cells])
        room = width - lead - sum(widths[:-1]) - 2 * (len(names) - 1)
    said = [_joined("", lead, [name.upper() for name in names], widths)]
    for line, row in zip(lines, cells, strict=True):
        last, below = row[-1], list(line.below)
        if len(last) > room:
            last, below = "", [last, *below]
        said.append(_joined(MARK if line.marked else "", lead, [*row[:-1], last], widths))
        for each in below:
            said += textwrap.wrap(
                each, width, initial_indent=" " * 4, subsequent_indent=" " * 6, break_on_hyphens=False
            )
    return said


def _widths(rows: Sequence[Sequence[str]]) -> list[int]:
    return [max(map(len, column)) for column in zip(*rows, strict=True)]


def _joined(mark: str, lead: int, row: Sequence[str], widths: Sequence[int]) -> str:
    cells = [*(cell.ljust(width) for cell, width in zip(row[:-1], widths, strict=False)), row[-1]]
    return (mark.ljust(lead) + "  ".join(cells)).rstrip()


def render(rows: Sequence[Mapping[str, object]]) -> str:
    """Rows as text in columns, however wide they are."""
    if not rows:
        return "(nothing)"
    columns = list(rows[0])
    cells = [[column.upper() for column in columns], *([str(row[column]) for column in columns] for row in rows)]
    widths = _widths(cells)
    return "\n".join(_joined("", 0, row, widths) for row in cells)
