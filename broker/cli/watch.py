"""`broker watch`."""

import asyncio
from typing import Annotated

import typer
from rich.live import Live

from broker.cli import showing
from broker.cli.acting import Acting, act
from broker.cli.exits import Exit
from broker.cli.watching import View
from broker.client.events import follow
from broker.wire.names import OwnedName

_REFRESH_S = 0.5
_RECOUNT_S = 5.0


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
        console.print(f"{view.stream} holds no items: push some with `broker push {name}`", markup=False)
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
        console.print(f"why: broker status {view.stream}", style="dim", markup=False)
        return Exit.FAILED
    return Exit.DONE


async def _live(acting: Acting, ref: OwnedName, view: View) -> None:

    with Live(view.render(), console=showing.stdout(), auto_refresh=False, transient=True) as live:
        changed = asyncio.Event()
        following = asyncio.create_task(_follow(acting, ref, view, changed))
        try:
            while not view.is_settled:
                await _recount(acting, ref, view, changed)
                live.update(view.render(), refresh=True)
                if following.done():
                    following.result()
                await asyncio.sleep(_REFRESH_S)
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)


async def _follow(acting: Acting, ref: OwnedName, view: View, changed: asyncio.Event) -> None:

    async for event in follow(acting.session, ref):
        view.take(event)
        changed.set()


async def _recount(acting: Acting, ref: OwnedName, view: View, changed: asyncio.Event) -> None:
    """Ask for the counts when an event came, and now and then without one."""
    loop = asyncio.get_running_loop()
    if changed.is_set() or loop.time() - view.counted_at_s > _RECOUNT_S:
        changed.clear()
        view.count(await acting.researcher.stream(ref), loop.time())


async def _plain(acting: Acting, ref: OwnedName, view: View) -> None:

    console = showing.stdout()
    loop = asyncio.get_running_loop()
    async for event in follow(acting.session, ref):
        line = view.take(event)
        if line:
            console.print(line, markup=False)
        if view.may_be_settled:
            view.count(await acting.researcher.stream(ref), loop.time())
            if view.is_settled:
                return
