"""`broker console | why`: what one item's vm, and the broker say."""

import sys
from typing import Annotated

import typer

from broker.cli import showing
from broker.cli.acting import Acting, act
from broker.cli.either import either

Item = Annotated[str, typer.Argument(metavar="ITEM", help="JOB/17 or USER/JOB/17.")]
Raw = Annotated[bool, typer.Option("--raw", help="Write the bytes as they are: not to a terminal.")]


def console(item: Item, raw: Raw = False) -> None:
    """Show the console's tail of an item's last vm, control characters made visible."""
    act(lambda acting: _console(acting, item, raw))


def why(what: Annotated[str, typer.Argument(metavar="STREAM|ITEM", help="JOB or JOB/17, with USER/ before.")]) -> None:
    """Say in one sentence why an item is where it is, or what a stream waits for."""
    act(lambda acting: _why(acting, what))


async def _console(acting: Acting, item: str, raw: bool) -> None:
    write_raw_or_visible(await acting.researcher.console(acting.item(item)), raw)


async def _why(acting: Acting, what: str) -> None:
    answer = await either(acting, what, acting.researcher.why, acting.researcher.why_stream)
    showing.stdout().print(showing.plain(answer.sentence))


def write_raw_or_visible(content: bytes, raw: bool) -> None:
    """Write to stdout what a guest or its program said: as it is, or with control characters made visible."""
    if raw:
        sys.stdout.buffer.write(content)
        return
    text = showing.visible(content.decode("utf-8", "backslashreplace"))
    sys.stdout.write(text if text.endswith("\n") or not text else f"{text}\n")
