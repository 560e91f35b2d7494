"""`broker try`: one item, followed to its end."""

import asyncio
import uuid
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from broker.cli import showing
from broker.cli.acting import Acting, act
from broker.cli.amounts import parse_duration_ms
from broker.cli.chunks import Common, chunks_of
from broker.cli.downloads import address_of, download_all
from broker.cli.exits import BadUsage, Exit, fail, tell
from broker.cli.progress import progress
from broker.cli.push import params_of
from broker.cli.pushing import Pushing
from broker.cli.result_formats import print_table
from broker.cli.said import print_console, print_head, print_output, said_of, verdict_of
from broker.cli.sources import Source, named
from broker.cli.trial import Trial
from broker.wire.files import ResultLine
from broker.wire.items import ItemView
from broker.wire.names import ItemRef
from broker.wire.states import ItemState

_TAIL_LINES = 40
_TIMEOUT = "30m"


def try_item(
    stream: Annotated[str, typer.Argument(help="JOB or USER/JOB.")],
    source: Annotated[
        str | None, typer.Argument(metavar="[FILE|URL]", help="A local file is uploaded, a URL is taken as it is.")
    ] = None,
    param: Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="Parameter of the item.")] = None,
    timeout: Annotated[str, typer.Option(help="How long to follow it: 90s, 15m, 2h.")] = _TIMEOUT,
    download: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Download every output to DIR/ITEM/NAME, verified.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace local files that hold something else.")] = False,
) -> None:
    """Push one item and follow it to its end: each phase of its vm, then its console, its program's output, its files.

    The item is one like any other, and stays when following it ends early. Exit status 1 when it is held, or not
    settled in time.
    """
    act(lambda acting: _try(acting, stream, source, param or [], timeout, download, force))


async def _try(
    acting: Acting, stream: str, source: str | None, params: list[str], limit: str, folder: Path | None, force: bool
) -> int:
    ref = acting.stream(stream)
    limit_ms = parse_duration_ms(limit, "--timeout")
    values = params_of(params, 1)
    if any(len(column) > 1 for column in values.values()):
        raise BadUsage("--param: a range makes several items, and this is one: name one value")
    before = await acting.researcher.stream(ref)
    pushing = Pushing(acting, ref, uuid.uuid4().hex)
    sources = [named(source) if source else Source()]
    with progress() as bars:
        await pushing.run(chunks_of(acting, ref, sources, Common(values), bars), lambda _: None)
    item = ItemRef(ref, pushing.tally.first)
    showing.stdout().print(f"{item} pushed")
    view = await _followed(acting, item, before.last_event, limit_ms)
    if view is None:
        return fail(f"{item} is not settled after {limit}; {_stays(item)}", Exit.FAILED)
    return await _ending(acting, view, folder, force)


async def _followed(acting: Acting, item: ItemRef, after: str | None, limit_ms: int) -> ItemView | None:
    """Return the settled item, or None when the time is up."""
    console = showing.stdout()

    async def report() -> None:
        await _show(acting, item)
        console.print("\nit is tried again; Ctrl-C ends following it, and the item stays")

    trial = Trial(acting, item, after, lambda line: console.print(line, soft_wrap=True), report)
    limit = asyncio.timeout(limit_ms / 1_000)
    try:
        async with limit:
            return await trial.follow()
    except TimeoutError:
        if not limit.expired():
            raise
        return None
    except asyncio.CancelledError:
        tell(f"{item} was left to itself; {_stays(item)}")
        raise


def _stays(item: ItemRef) -> str:
    return f"it stays: go on with `broker watch {item.stream}`, or ask `broker why {item}`"


async def _show(acting: Acting, item: ItemRef) -> None:
    """Show why, the console's end and the output's end of the item's last vm."""
    console = showing.stdout()
    said = await said_of(acting, item)
    console.print()
    print_head(console, said.item)
    print_console(console, said, last_lines=_TAIL_LINES)
    print_output(console, said, last_lines=_TAIL_LINES)


async def _ending(acting: Acting, view: ItemView, folder: Path | None, force: bool) -> int:
    console = showing.stdout()
    item = acting.item(view.item)
    await _show(acting, item)
    if view.state is not ItemState.DONE:
        tell(
            f"{item} is {view.state}: {view.reason.sentence if view.reason else verdict_of(view)}",
            f"`broker logs {item}` shows all that was said, `broker logs {item} --bundle FILE` keeps it for others",
            f"change the program or the stream's spec, then `broker try {item.stream}` again",
        )
        return Exit.FAILED
    line = _result(view)
    console.print()
    print_table(console, str(item.stream), [line])
    console.print(f"{item} is done; {verdict_of(view)}", soft_wrap=True)
    return await download_all(acting, [line], folder, force) if folder is not None else Exit.DONE


def _result(view: ItemView) -> ResultLine:
    return ResultLine.of(view, [msgspec.structs.replace(output, url=address_of(output.url)) for output in view.outputs])
