"""What the run booted and skipped, printed at its end: a run that booted nothing must not look like one that did."""

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


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    skipped = terminalreporter.stats.get("skipped", [])
    terminalreporter.write_sep("-", "virtual machines")
    terminalreporter.write_line(
        f"{len(_booted_by_launchers)} virtual machines were booted by launchers for items, "
        f"{len(_tests_with_a_vm)} further tests booted guests of their own; {len(skipped)} tests were skipped"
    )
