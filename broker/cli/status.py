"""`broker status`."""

from typing import Annotated

import typer
from rich.table import Table

from broker.cli import showing
from broker.cli.acting import Acting, act
from broker.cli.bulk import progress_of
from broker.cli.either import either
from broker.domain.why import REFUSED_FACT, sentence_of
from broker.wire.items import ItemView, VmView
from broker.wire.states import ItemState
from broker.wire.streams import StreamView

_TROUBLED = 10
"""Held and delayed items shown with their reason."""


def status(
    what: Annotated[str, typer.Argument(metavar="STREAM|ITEM", help="JOB or USER/JOB; or one item, JOB/17.")],
) -> None:
    """Count a stream's items by state and show which are in trouble; or tell everything about one item."""
    act(lambda acting: _status(acting, what))


async def _status(acting: Acting, what: str) -> None:
    view: ItemView | StreamView = await either(acting, what, acting.researcher.item, acting.researcher.stream)
    if isinstance(view, ItemView):
        _show_item(view)
    else:
        await _show_stream(acting, view)


async def _show_stream(acting: Acting, view: StreamView) -> None:

    console = showing.stdout()
    console.print(f"{view.stream} on machine {view.spec.machine}, {sum(view.counts.values())} items", style="bold")
    if view.paused is not None:
        console.print(f"paused: {showing.plain(view.paused.sentence)}")
    if view.bulk is not None and view.bulk.ended_at is None:
        console.print(progress_of(view.bulk))
    table = showing.table("state", "items", right=("items",))
    for state in ItemState:
        if view.counts.get(state):
            table.add_row(showing.state(state), str(view.counts[state]))
    if table.row_count:
        console.print(table)
    for state in (ItemState.HELD, ItemState.DELAYED):
        if view.counts.get(state):
            console.print(await _troubled(acting, view.stream, state))


async def _troubled(acting: Acting, name: str, state: str) -> Table:

    table = showing.table(f"\n{state}", "\nattempts", "\nreason", right=("\nattempts",))
    async for item in acting.researcher.items(acting.stream(name), ItemState(state)):
        if table.row_count == _TROUBLED:
            table.add_row("…", "", "")
            break
        reason = showing.plain(item.reason.sentence) if item.reason else ""
        table.add_row(item.item.partition("/")[2], str(item.attempts), reason)
    return table


def _show_item(view: ItemView) -> None:

    table = showing.pairs()
    table.add_row("item", view.item)
    table.add_row("state", showing.state(view.state))
    table.add_row("why", showing.plain(sentence_of(view)))
    _add_item_rows(table, view)
    if view.vm:
        _add_vm_rows(table, view.vm)
    for output in view.outputs:
        table.add_row("output", f"{showing.plain(output.name)}  {showing.size(output.size_bytes)}  {output.digest}")
    showing.stdout().print(table)


def _add_item_rows(table: Table, view: ItemView) -> None:

    rows = {
        "name": view.name,
        "input": view.url,
        "params": ", ".join(f"{name}={value}" for name, value in view.params.items()),
        "pushed": view.pushed_at,
        "settled": view.settled_at,
        "exit code": None if view.exit_code is None else str(view.exit_code),
        "attempts": f"{view.attempts} (boots: {view.boots})",
        "spec": f"revision {view.revision}",
    }
    for name, value in rows.items():
        if value:
            table.add_row(name, showing.plain(value))


def _add_vm_rows(table: Table, vm: VmView) -> None:

    accelerator = f", {vm.accelerator}" if vm.accelerator else ""
    table.add_row("vm", f"{vm.dispatch} on {showing.plain(vm.node)} ({showing.plain(vm.launcher)})")
    table.add_row("", f"{vm.vcpus} vcpus, {vm.memory_mib} MiB{accelerator}")
    times = list(vm.phases.items())
    if times:
        first = times[0][1]
        steps = (f"{phase} +{showing.between(first, at)}" for phase, at in times[1:])
        table.add_row("phases", ", ".join([f"{times[0][0]} {first}", *steps]))
    if refused := vm.facts.get(REFUSED_FACT):
        table.add_row("refused", f"by its network: {showing.plain(refused)}")
    facts = ", ".join(f"{name}={value}" for name, value in vm.facts.items() if name != REFUSED_FACT)
    if facts:
        table.add_row("facts", showing.plain(facts))
    if vm.verdict:
        table.add_row("verdict", f"{vm.verdict}: {showing.plain(vm.sentence)}")
    if vm.has_console:
        table.add_row("console", "kept: `broker console`")
