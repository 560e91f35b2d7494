"""`broker results`."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated

import typer

from broker.cli import showing
from broker.cli.acting import Acting, act
from broker.cli.downloads import Downloads, download_all
from broker.cli.exits import BadUsage, Exit
from broker.cli.progress import progress
from broker.cli.result_formats import OutputFormat, csv_heading, csv_rows, print_json, print_table, sentence_of
from broker.client.results import follow_results
from broker.wire.files import ResultLine
from broker.wire.names import OwnedName
from broker.wire.states import SETTLED, ItemState

_WITH_RESULT = (ItemState.DONE, ItemState.HELD)
_QUIET_S = 1.0
"""So long without a result is worth a look at the counts."""
_LAST_LOOKS = 5
"""How often it may be quiet after all items settled before results that are counted and never came are given up: they
were released, or are no longer kept."""


def results(
    stream: Annotated[str, typer.Argument(help="JOB or USER/JOB.")],
    download: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Download every output to DIR/ITEM/NAME, verified.")
    ] = None,
    output: Annotated[OutputFormat, typer.Option("--output", "-o", help="How to show them.")] = OutputFormat.TABLE,
    follow: Annotated[
        bool, typer.Option("--follow", help="Go on with what settles, until all items of the stream are settled.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace local files that hold something else.")] = False,
) -> None:
    """Show the results of done and held items, and download their outputs.

    A downloaded file is checked against its size and digest. One that is there already with the same bytes is left; one
    with other bytes is replaced only with --force.
    """
    act(lambda acting: _results(acting, stream, download, output, follow, force))


async def _results(
    acting: Acting, stream: str, folder: Path | None, output: OutputFormat, follow: bool, force: bool
) -> int:
    ref = acting.stream(stream)
    if follow:
        if output is OutputFormat.JSON:
            raise BadUsage("-o json is one text, which has an end: with --follow write -o jsonl")
        return await _follow(acting, ref, folder, output, force)
    lines = [line async for line in acting.researcher.results(ref)]
    lines.sort(key=lambda line: int(line.item.rpartition("/")[2]))
    console = showing.stdout()
    match output:
        case OutputFormat.TABLE:
            print_table(console, stream, lines)
        case OutputFormat.JSON:
            print_json(console, lines)
        case OutputFormat.JSONL:
            for line in lines:
                print_json(console, line)
        case OutputFormat.CSV:
            console.file.write(csv_heading())
            console.file.writelines(map(csv_rows, lines))
    return await download_all(acting, lines, folder, force) if folder is not None else Exit.DONE


async def _follow(acting: Acting, ref: OwnedName, folder: Path | None, output: OutputFormat, force: bool) -> int:
    """Show each result as it comes; downloads go on beside, and what failed of them is told at the end."""
    console = showing.stdout()
    if output is OutputFormat.CSV:
        console.file.write(csv_heading())
        console.file.flush()
    with progress() as bars:
        async with Downloads(acting, folder, force, bars) as downloads:
            async for line in _until_settled(acting, ref):
                match output:
                    case OutputFormat.CSV:
                        console.file.write(csv_rows(line))
                    case OutputFormat.JSONL:
                        print_json(console, line)
                    case _:
                        console.print(sentence_of(line))
                # Whoever reads a pipe wants each result when it comes.
                console.file.flush()
                await downloads.add(line)
    return downloads.tell() if folder is not None else Exit.DONE


async def _until_settled(acting: Acting, ref: OwnedName) -> AsyncIterator[ResultLine]:
    """Yield results until all items of the stream are settled, and those that are done or held were told."""
    told: dict[str, str] = {}
    looks = 0
    coming = follow_results(acting.session, ref)
    waiting: asyncio.Task[ResultLine] | None = None
    try:
        while True:
            waiting = waiting or asyncio.ensure_future(anext(coming))
            done, _ = await asyncio.wait({waiting}, timeout=_QUIET_S)
            if done:
                line, waiting, looks = waiting.result(), None, 0
                told[line.item] = line.state
                yield line
                continue
            counts = (await acting.researcher.stream(ref)).counts
            if sum(counts.values()) > sum(counts.get(state, 0) for state in SETTLED):
                continue
            looks += 1
            # By state: an item that was told as held may be done by now, and that is still to come.
            lasts = Counter(told.values())
            if all(lasts[state] >= counts.get(state, 0) for state in _WITH_RESULT) or looks == _LAST_LOOKS:
                return
    finally:
        if waiting is not None:
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
        await coming.aclose()
