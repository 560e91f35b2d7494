"""What a run saw of launchers in batch jobs, printed as JSON at its end: one object a line."""

import json
from typing import Any

import pytest

_seen: list[dict[str, Any]] = []


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand what a worker noted to the process that reports. Source: pytest-xdist, `config.workeroutput`."""
    handed_over: dict[str, Any] | None = getattr(session.config, "workeroutput", None)
    if handed_over is not None:
        handed_over["evidence"] = list(_seen)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    _seen.extend(getattr(node, "workeroutput", {}).get("evidence", []))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what was noted, if anything was."""
    if _seen:
        terminalreporter.write_sep("-", "evidence")
    for line in _seen:
        terminalreporter.write_line(json.dumps(line))


def note(what: str, **facts: object) -> None:
    """Have a line printed when the run is over."""
    _seen.append({"what": what, **facts})
