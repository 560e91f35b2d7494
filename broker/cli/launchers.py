"""`broker launchers`."""

from enum import StrEnum
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from broker.cli import showing
from broker.cli.acting import Acting, act
from broker.wire.jobs import JobsView
from broker.wire.kinds import in_full
from broker.wire.launchers import Health, LauncherView, ListedState
from broker.wire.states import HealthState

_MIB = 1_048_576
_NONE = ("-", "-", "-")
_AMOUNTS = ("vms", "free vcpus", "memory", "disk", "time left", "heard")
_JOBS_AMOUNTS = ("queued", "running", "held", "told")
_FEW = ("launcher", "state", "vms", "free vcpus", "memory", "heard")
"""Columns of a terminal that is too narrow for all."""
_WIDEST = 10_000


class OutputFormat(StrEnum):
    TABLE = "table"
    JSON = "json"


def launchers(
    state: Annotated[
        ListedState | None,
        typer.Option(help="Only those that are there and whose node is in this state, or `gone` ones."),
    ] = None,
    output: Annotated[OutputFormat, typer.Option("--output", "-o", help="How to show them.")] = OutputFormat.TABLE,
) -> None:
    """Show the launchers of the last day: those that are there first, and why a node is not well; and launcher jobs.

    The operator sees all of them, whoever else those that would serve them.
    """
    act(lambda acting: _launchers(acting, state, output))


async def _launchers(acting: Acting, state: ListedState | None, output: OutputFormat) -> None:
    views = [view async for view in acting.researcher.launchers(state)]
    console = showing.stdout()
    match output:
        case OutputFormat.TABLE:
            print_launchers(console, views, state)
            if state is None:
                print_jobs(console, await acting.researcher.launcher_jobs())
        case OutputFormat.JSON:
            console.file.write(showing.json_of([in_full(view) for view in views]) + "\n")


def print_launchers(console: Console, views: list[LauncherView], state: ListedState | None = None) -> None:
    """Show launchers as wide as the terminal allows: all columns, the most telling ones, or a few lines for each."""
    if not views:
        console.print(_nobody(state))
        return
    rows = [_row(view) for view in views]
    for columns in (tuple(rows[0]), _FEW):
        table = _table(columns, rows, _AMOUNTS)
        if _has_room(console, table):
            console.print(table)
            break
    else:
        for row in rows:
            console.print(f"{row['launcher']}: {row['state']}", soft_wrap=True)
            console.print(_figures(row), soft_wrap=True)
    for view in views:
        if sentence := _trouble(view):
            console.print(f"{showing.plain(view.launcher)}: {sentence}")


def print_jobs(console: Console, jobs: list[JobsView]) -> None:
    """Show what submitters told of their launcher jobs, if any did: as a table where that has room."""
    if not jobs:
        return
    rows = [_jobs_row(view) for view in jobs]
    table = _table(tuple(rows[0]), rows, _JOBS_AMOUNTS)
    if _has_room(console, table):
        console.print(table)
    else:
        for row in rows:
            console.print(f"launcher jobs of {row['launcher jobs of']} in {row['in']}", soft_wrap=True)
            console.print("  " + ", ".join(f"{name} {row[name]}" for name in _JOBS_AMOUNTS), soft_wrap=True)
    for view in jobs:
        if view.report.sentence:
            console.print(f"{showing.plain(view.jobs)}: {showing.plain(view.report.sentence)}", soft_wrap=True)


def _jobs_row(view: JobsView) -> dict[str, str]:
    report = view.report
    return {
        "launcher jobs of": showing.plain(view.jobs),
        "in": f"{report.kind.value}, {showing.plain(report.place)}",
        "queued": str(report.queued or "-"),
        "running": str(report.running or "-"),
        "held": str(report.held or "-"),
        "told": f"{showing.duration(showing.since(view.told_at))} ago",
    }


def _has_room(console: Console, table: Table) -> bool:
    return console.measure(table, options=console.options.update(max_width=_WIDEST)).maximum <= console.width


def _table(columns: tuple[str, ...], rows: list[dict[str, str]], right: tuple[str, ...]) -> Table:
    table = showing.table(*columns, right=right)
    for row in rows:
        table.add_row(*(row[column] for column in columns))
    return table


def _figures(row: dict[str, str]) -> str:
    return "  " + ", ".join(f"{name} {row[name]}" for name in _FEW[2:])


def _nobody(state: ListedState | None) -> str:
    if state is not None:
        return f"no launcher of the last day that you may see is {state}"
    return "no launcher that you may see was heard of in the last day: start one, `launcher run`"


def _row(view: LauncherView) -> dict[str, str]:
    report = view.report
    left_ms = report.total.time_left_ms
    free_vcpus, memory, disk = _free(view)
    return {
        "launcher": showing.plain(view.launcher),
        "node": showing.plain(view.node),
        "state": "gone" if view.is_gone else report.health.state.value,
        "vms": str(report.vms),
        "free vcpus": free_vcpus,
        "memory": memory,
        "disk": disk,
        "accelerator": report.total.accelerator.value,
        "time left": "" if left_ms is None else showing.duration(left_ms),
        "heard": f"{showing.duration(showing.since(view.heard_at))} ago",
    }


def _free(view: LauncherView) -> tuple[str, str, str]:
    free = view.report.free
    if free is None or view.is_gone:
        return _NONE
    return str(free.vcpus), showing.size(free.memory_mib * _MIB), showing.size(free.disk_mib * _MIB)


def _trouble(view: LauncherView) -> str:
    """Return why a launcher gets no items, or fewer than it could; '' when all is well."""
    health = view.report.health
    contact = f"; contact: {showing.plain(view.report.contact)}" if view.report.contact else ""
    if view.is_gone:
        return f"not heard since {view.heard_at}; it was {_condition(health)}{contact}"
    return "" if health.state is HealthState.HEALTHY else f"{_condition(health)}{contact}"


def _condition(health: Health) -> str:
    code = f" ({health.code})" if health.code is not None else ""
    sentence = f": {showing.plain(health.sentence)}" if health.sentence else ""
    again = f"; it tries again at {showing.plain(health.retry_at)}" if health.retry_at else ""
    return f"{health.state}{code}{sentence}{again}"
