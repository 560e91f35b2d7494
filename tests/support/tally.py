"""What the run booted and skipped, printed at its end: a run that booted nothing must not look like one that did.

Where the run has several workers each hands its count to the process that reports.
Source: pytest-xdist, `config.workeroutput` and the hook `pytest_testnodedown`.
"""

from typing import Any

import pytest

_booted_by_launchers: list[str] = []
_tests_with_a_vm: list[str] = []


def count_booted(dispatch: str) -> None:
    """Note one more vm that a launcher really started."""
    _booted_by_launchers.append(dispatch)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    # The acceptance tests' vms are counted from their launchers' logs; these boot guests of their own.
    if report.when == "call" and report.passed and "vm" in report.keywords and "acceptance" not in report.nodeid:
        _tests_with_a_vm.append(report.nodeid)


def pytest_sessionfinish(session: pytest.Session) -> None:
    handed_over: dict[str, Any] | None = getattr(session.config, "workeroutput", None)
    if handed_over is not None:
        handed_over["booted"] = list(_booted_by_launchers)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    _booted_by_launchers.extend(getattr(node, "workeroutput", {}).get("booted", []))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    skipped = terminalreporter.stats.get("skipped", [])
    terminalreporter.write_sep("-", "virtual machines")
    terminalreporter.write_line(
        f"{len(_booted_by_launchers)} virtual machines were booted by launchers for items, "
        f"{len(_tests_with_a_vm)} further tests booted guests of their own; {len(skipped)} tests were skipped"
    )
