"""`broker watch`."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Annotated, Any

import typer
from rich.live import Live

from broker.cli import showing
from broker.cli.acting import Acting, act
from broker.cli.exits import Exit
from broker.cli.watching import View
from broker.client.errors import CallError, may_help_to_repeat
from broker.client.events import follow
from broker.wire.names import OwnedName

_REFRESH_S = 0.5
_RECOUNT_S = 5.0
_QUIET_S = 2.0
"""So long without an event is worth a look at the counts."""


def watch(stream: Annotated[str, typer.Argument(help="JOB or USER/JOB.")]) -> None:
    """Follow a stream until all of its items are settled. Exit status 1 when any is held.

    On a terminal it is a live view; elsewhere, one line an event.
    """
    act(lambda acting: _watch(acting, stream))


async def _watch(acting: Acting, name: str) -> int:

    ref = acting.stream(name)
    view = View(await acting.researcher.stream(ref))
    console = showing.stdout()
    if not view.total:
        console.print(f"{view.stream} holds no items: push some with `broker push {name}`")
        return Exit.DONE
    if console.is_terminal:
        await _live(acting, ref, view)
    else:
        await _plain(acting, ref, view)
    return _ending(view)


def _ending(view: View) -> int:

    console = showing.stdout()
    console.print(view.summary())
    if view.held:
        console.print(f"why: broker status {view.stream}", style="dim")
        return Exit.FAILED
    return Exit.DONE


async def _live(acting: Acting, ref: OwnedName, view: View) -> None:

    with Live(view.render(), console=showing.stdout(), auto_refresh=False, transient=True) as live:
        changed = asyncio.Event()
        async with _following(acting, ref, view, changed) as following:
            while not view.is_settled:
                is_old = asyncio.get_running_loop().time() - view.counted_at_s > _RECOUNT_S
                if changed.is_set() or is_old:
                    changed.clear()
                    await _count(acting, ref, view)
                live.update(view.render(), refresh=True)
                _check(following)
                await asyncio.sleep(_REFRESH_S)


async def _plain(acting: Acting, ref: OwnedName, view: View) -> None:
    """Print the events until the counts say that all is settled.

    The counts are asked for when the events tell of an end, and whenever it is quiet: of a log that was trimmed the
    events alone would never tell it.
    """
    changed = asyncio.Event()
    async with _following(acting, ref, view, changed, showing.stdout().print) as following:
        while True:
            is_quiet = not await _within(changed.wait(), _QUIET_S)
            changed.clear()
            _check(following)
            if is_quiet or view.may_be_settled:
                await _count(acting, ref, view)
                if view.is_settled:
                    return


async def _within(waiting: Coroutine[Any, Any, object], limit_s: float) -> bool:
    try:
        async with asyncio.timeout(limit_s):
            await waiting
    except TimeoutError:
        return False
    return True


@asynccontextmanager
async def _following(
    acting: Acting,
    ref: OwnedName,
    view: View,
    changed: asyncio.Event,
    say: Callable[[str], None] = lambda _: None,
) -> AsyncIterator[asyncio.Task[None]]:
    """Take the events in beside the block, and stop with it."""

    async def run() -> None:
        async for event in follow(acting.session, ref):
            line = view.take(event)
            if line:
                say(line)
            changed.set()

    task = asyncio.create_task(run())
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _check(following: asyncio.Task[None]) -> None:
    """Raise what ended the following."""
    if following.done():
        following.result()


async def _count(acting: Acting, ref: OwnedName, view: View) -> None:
    """Ask for the counts; a broker that is away for a moment is for whoever follows the events to judge."""
    try:
        view.count(await acting.researcher.stream(ref), asyncio.get_running_loop().time())
    except CallError as error:
        if not may_help_to_repeat(error):
            raise
