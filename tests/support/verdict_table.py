"""What the tests saw become of items, as a table at the end of the run."""

import textwrap
from typing import NamedTuple

import pytest

_HEAD = ("verdict", "provoked how", "item's end state", "sentence")
_WIDTHS = (13, 38, 27, 60)


class Line(NamedTuple):
    verdict: str
    how: str
    state: str
    sentence: str


_lines: list[Line] = []


def note(line: Line) -> None:
    """Have a line printed when the run is over."""
    if line not in _lines:
        _lines.append(line)


def show(terminal: pytest.TerminalReporter) -> None:
    """Print the table, if there is anything in it."""
    if not _lines:
        return
    terminal.write_sep("-", "verdicts")
    for line in (_HEAD, *sorted(_lines)):
        cells = [textwrap.wrap(text, width) or [""] for text, width in zip(line, _WIDTHS, strict=True)]
        for row in range(max(map(len, cells))):
            parts = [cell[row] if row < len(cell) else "" for cell in cells]
            padded = (part.ljust(width) for part, width in zip(parts, _WIDTHS, strict=True))
            terminal.write_line("  ".join(padded).rstrip())
