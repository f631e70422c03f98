"""Draws what a program printed, with its colours, as a picture of a terminal: ANSIBLE_FORCE_COLOR=1 ansible-playbook ... | python docs/terminal.py NAME.svg."""

from __future__ import annotations

import html
import re
import sys
from pathlib import Path

CELL, LINE, MARGIN = 8.4, 18, 14
INK, PAPER = "#d8dee9", "#1f2430"
COLOURS = {
    "30": "#7f8790",
    "31": "#ff6b6b",
    "32": "#8fce6b",
    "33": "#f2c55c",
    "34": "#6cb6ff",
    "35": "#d19bff",
    "36": "#5ad1cd",
}
_CODE = re.compile(r"\x1b\[([0-9;]*)m")


def spans(line: str, colour: str) -> tuple[list[tuple[str, str]], str]:
    """Split a line into pieces with their colours; the last colour goes on in the next line."""
    found = []
    for number, part in enumerate(_CODE.split(line)):
        if number % 2:
            colour = next((COLOURS[code] for code in reversed(part.split(";")) if code in COLOURS), INK)
        elif part:
            found.append((part, colour))
    return found, colour


def picture(text: str) -> str:
    """Return an SVG that shows the text."""
    lines = text.rstrip("\n").expandtabs().split("\n")
    columns = max(len(_CODE.sub("", line)) for line in lines)
    width, height = columns * CELL + 2 * MARGIN, len(lines) * LINE + 2 * MARGIN
    rows, colour = [], INK
    for number, line in enumerate(lines):
        pieces, colour = spans(line, colour)
        at, inside = 0, ""
        for piece, ink in pieces:
            inside += f'<tspan x="{MARGIN + at * CELL:.1f}" fill="{ink}">{html.escape(piece)}</tspan>'
            at += len(piece)
        rows.append(f'<text y="{MARGIN + number * LINE + 13}">{inside}</text>')
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" width="{width:.0f}" height="{height}">',
            "<style>text{font:14px ui-monospace,'DejaVu Sans Mono',Menlo,Consolas,monospace;white-space:pre}</style>",
            f'<rect width="100%" height="100%" rx="8" fill="{PAPER}"/>',
            *rows,
            "</svg>\n",
        ]
    )


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(picture(sys.stdin.read()), encoding="utf-8")
