"""`broker launchers`."""

from enum import StrEnum
from typing import Annotated

import msgspec
import typer
from rich.console import Console

from broker.cli import showing
from broker.cli.acting import Acting, act
from broker.wire.launchers import LauncherView
from broker.wire.states import HealthState

_MIB = 1_048_576
_NONE = ("-", "-", "-")


class OutputFormat(StrEnum):
    TABLE = "table"
    JSON = "json"


def launchers(
    state: Annotated[HealthState | None, typer.Option(help="Only those whose node is in this state.")] = None,
    output: Annotated[OutputFormat, typer.Option("--output", "-o", help="How to show them.")] = OutputFormat.TABLE,
) -> None:
    """Show the launchers of the last day: those that are there first, and why a node is not well.

    The operator sees all of them, whoever else those that would serve them.
    """
    act(lambda acting: _launchers(acting, state, output))


async def _launchers(acting: Acting, state: HealthState | None, output: OutputFormat) -> None:
    views = [view async for view in acting.researcher.launchers(state)]
    console = showing.stdout()
    match output:
        case OutputFormat.TABLE:
            _print_table(console, views, state)
        case OutputFormat.JSON:
            console.file.write(msgspec.json.encode(views).decode() + "\n")


def _print_table(console: Console, views: list[LauncherView], state: HealthState | None) -> None:
    if not views:
        console.print(_nobody(state))
        return
    amounts = ("vms", "free vcpus", "memory", "disk", "time left", "heard")
    table = showing.table("launcher", "node", "state", *amounts[:4], "accelerator", *amounts[4:], right=amounts)
    for view in views:
        table.add_row(*_row(view))
    console.print(table)
    for view in views:
        if sentence := _trouble(view):
            console.print(f"{showing.plain(view.launcher)}: {sentence}")


def _nobody(state: HealthState | None) -> str:
    if state is not None:
        return f"no launcher of the last day that would serve you is {state}"
    return "no launcher that would serve you was heard of in the last day: start one, `launcher run`"


def _row(view: LauncherView) -> tuple[str, ...]:
    report = view.report
    left_ms = report.total.time_left_ms
    return (
        showing.plain(view.launcher),
        showing.plain(view.node),
        "gone" if view.is_gone else report.health.state.value,
        str(report.vms),
        *_free(view),
        report.total.accelerator.value,
        "" if left_ms is None else showing.duration(left_ms),
        f"{showing.duration(showing.since(view.heard_at))} ago",
    )


def _free(view: LauncherView) -> tuple[str, str, str]:
    free = view.report.free
    if free is None or view.is_gone:
        return _NONE
    return str(free.vcpus), showing.size(free.memory_mib * _MIB), showing.size(free.disk_mib * _MIB)


def _trouble(view: LauncherView) -> str:
    """Return why a launcher gets no items, or fewer than it could; '' when all is well."""
    health = view.report.health
    if view.is_gone:
        return f"not heard since {view.heard_at}"
    if health.state is HealthState.HEALTHY:
        return ""
    code = f" ({health.code})" if health.code is not None else ""
    sentence = f": {showing.plain(health.sentence)}" if health.sentence else ""
    again = f"; it tries again at {showing.plain(health.retry_at)}" if health.retry_at else ""
    contact = f"; contact: {showing.plain(view.report.contact)}" if view.report.contact else ""
    return f"{health.state}{code}{sentence}{again}{contact}"
