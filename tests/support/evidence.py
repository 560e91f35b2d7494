"""What a run saw of launchers in batch jobs, printed as JSON at its end: one object a line."""

import json
from typing import Any

import pytest

_seen: list[dict[str, Any]] = []


def note(what: str, **facts: object) -> None:
    """Have a line printed when the run is over."""
    _seen.append({"what": what, **facts})


def show(terminal: pytest.TerminalReporter) -> None:
    """Print what was noted, if anything was."""
    if not _seen:
        return
    terminal.write_sep("-", "evidence")
    for line in _seen:
        terminal.write_line(json.dumps(line))
