"""`broker events`."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated

import typer
from rich.console import Console

from broker.cli import showing
from broker.cli.acting import Acting, act
from broker.cli.exits import Exit
from broker.client.events import Said, follow, read
from broker.wire.events import TYPE_PREFIX, Event, Truncated, TruncatedLine
from broker.wire.names import UserName

_TOLD = ("sentence", "verdict", "node")
"""Fields of an event's data, of which the first that is there says most to a person."""


class EventFormat(StrEnum):
    TEXT = "text"
    JSONL = "jsonl"


def events(
    stream: Annotated[str | None, typer.Argument(help="JOB or USER/JOB; without one, all of your streams.")] = None,
    endless: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what happens, until Ctrl-C.")] = False,
    after: Annotated[
        str | None, typer.Option(metavar="ID", help="Only what came after this event: its id, or its position.")
    ] = None,
    output: Annotated[EventFormat, typer.Option("--output", "-o", help="How to show them.")] = EventFormat.TEXT,
) -> None:
    """Show what happened in a stream, or in all of your streams in one order, as long as it is kept.

    With --output jsonl each line is one event in full, a CloudEvent in JSON. To go on later without a gap, pass the
    last one's `id` to --after, or without STREAM its `position`. Where events are no longer kept, one line says so.
    A lost connection is made anew, and none is missed or shown twice.
    """
    act(lambda acting: _events(acting, stream, endless, after, output))


async def _events(acting: Acting, stream: str | None, endless: bool, after: str | None, output: EventFormat) -> int:

    what = UserName(acting.user) if stream is None else acting.stream(stream)
    console = showing.stdout()
    async for said in (follow if endless else read)(acting.session, what, after):
        match output:
            case EventFormat.TEXT:
                console.print(_text(said), soft_wrap=True)
            case EventFormat.JSONL:
                _print_json(console, said)
    return Exit.DONE


def _text(said: Said) -> str:
    if isinstance(said, Truncated):
        return "… earlier events are no longer kept"
    at = datetime.fromisoformat(said.time).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    of = said.subject or said.source.removeprefix("/streams/")
    return f"{at}  {said.type.removeprefix(TYPE_PREFIX):<16}  {of.partition('/')[2]}  {_told(said)}".rstrip()


def _told(event: Event) -> str:
    if "first" in event.data:
        return f"{event.data['first']} to {event.data.get('last')}"
    return next((showing.plain(str(event.data[field])) for field in _TOLD if event.data.get(field)), "")


def _print_json(console: Console, said: Said) -> None:

    line = TruncatedLine(truncated=said) if isinstance(said, Truncated) else said
    console.file.write(showing.json_of(line) + "\n")
    # Whoever reads a pipe is to see each event when it happens.
    console.file.flush()
