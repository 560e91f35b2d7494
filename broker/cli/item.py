"""`broker console | why`: what one item's vm, and the broker say."""

import sys
from typing import Annotated

import typer

from broker.cli import showing
from broker.cli.acting import Acting, act
from broker.wire.items import ItemView
from broker.wire.states import FailureCode

REFUSED_FACT = "refused"
"""The fact of a vm that names what its guest asked its network for in vain."""
Item = Annotated[str, typer.Argument(metavar="ITEM", help="JOB/17 or USER/JOB/17.")]
Raw = Annotated[bool, typer.Option("--raw", help="Write the bytes as they are: not to a terminal.")]


def console(item: Item, raw: Raw = False) -> None:
    """Show the console's tail of an item's last vm, control characters made visible."""
    act(lambda acting: _console(acting, item, raw))


def why(item: Item) -> None:
    """Say in one sentence why an item is in the state it is in."""
    act(lambda acting: _why(acting, item))


async def _console(acting: Acting, item: str, raw: bool) -> None:
    write_raw_or_visible(await acting.researcher.console(acting.item(item)), raw)


async def _why(acting: Acting, item: str) -> None:
    view = await acting.researcher.item(acting.item(item))
    showing.stdout().print(showing.plain(reason_of(view)))


def reason_of(view: ItemView) -> str:
    """Return one sentence: why the item is where it is."""
    vm = view.vm
    reason = f": {view.reason.sentence}{_refused(view)}" if view.reason else ""
    waits = view.waits.sentence if view.waits else "it waits for a launcher with room for it"
    match view.state.value:
        case "ready" if view.boots == 0:
            return f"{view.item} is ready: {waits}"
        case "ready":
            return f"{view.item} is ready again{reason}; {waits}"
        case "delayed" if view.boots == 0:
            return f"{view.item} becomes ready at {view.not_before}"
        case "delayed":
            return f"{view.item} is tried again at {view.not_before}{reason}"
        case "dispatched" if vm:
            phase = list(vm.phases)[-1].value if vm.phases else "dispatched"
            return f"{view.item} has a vm on {vm.node}, which is {phase} and has not claimed it yet"
        case "running" if vm:
            return f"{view.item} is running on {vm.node}"
        case "held":
            return f"{view.item} is held (attempts: {view.attempts}, boots: {view.boots}){reason}"
    return f"{view.item} is {view.state}{reason}"


def _refused(view: ItemView) -> str:
    """Return what the node's network refused the item's last vm, where that may be why its program failed."""
    has_failed = view.reason is not None and view.reason.code in set(FailureCode)
    refused = view.vm.facts.get(REFUSED_FACT) if view.vm is not None and has_failed else None
    return f"; the vm's network refused {refused}" if refused else ""


def write_raw_or_visible(content: bytes, raw: bool) -> None:
    """Write to stdout what a guest or its program said: as it is, or with control characters made visible."""
    if raw:
        sys.stdout.buffer.write(content)
        return
    text = showing.visible(content.decode("utf-8", "backslashreplace"))
    sys.stdout.write(text if text.endswith("\n") or not text else f"{text}\n")
