"""`broker pause | resume | purge`: a whole stream."""

import sys
from typing import Annotated

import typer

from broker.cli import showing
from broker.cli.acting import Acting, act
from broker.cli.bulk import follow
from broker.cli.exits import BadUsage

Name = Annotated[str, typer.Argument(metavar="STREAM", help="JOB or USER/JOB.")]


def pause(name: Name, reason: Annotated[str, typer.Option(help="Why, for whoever looks at it later.")] = "") -> None:
    """Let a stream give nothing out for now. What vms have goes on, and items can be pushed."""

    async def work(acting: Acting) -> None:
        view = await acting.researcher.pause(acting.stream(name), reason)
        why = f": {showing.plain(view.paused.sentence)}" if view.paused else ""
        showing.stdout().print(f"{view.stream} is paused{why}")

    act(work)


def resume(name: Name) -> None:
    """Let a paused stream give out again."""

    async def work(acting: Acting) -> None:
        view = await acting.researcher.resume(acting.stream(name))
        showing.stdout().print(f"{view.stream} gives out again, {view.counts['ready']} items are ready")

    act(work)


def purge(
    name: Name,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Stay until it is gone.")] = True,
) -> None:
    """Remove a stream with all its items, results' records, logs and events. Files in the file service stay.

    Vms that have items of it are told to end; it is gone when they have had time to hear of it.
    """

    async def work(acting: Acting) -> None:
        ref = acting.stream(name)
        view = await acting.researcher.stream(ref)
        if not yes and not _is_meant(view.stream, sum(view.counts.values())):
            raise BadUsage(f"{view.stream} was left as it is")
        await follow(acting, ref, await acting.researcher.purge(ref), is_waiting=wait)

    act(work)


def _is_meant(stream: str, items: int) -> bool:
    if not sys.stdin.isatty():
        raise BadUsage(f"removing {stream} with its {items} items cannot be undone: say --yes")
    return typer.confirm(f"Remove {stream} with its {items} items?")
