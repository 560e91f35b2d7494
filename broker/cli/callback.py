"""`broker callback list | replay | test`: how servers are told of settled items."""

from enum import StrEnum
from typing import Annotated

import typer

from broker.cli import showing
from broker.cli.acting import Acting, act
from broker.cli.exits import Exit
from broker.domain.limits import default
from broker.wire.callbacks import CallbackPage, CallbackState, CallbackView
from broker.wire.events import TYPE_PREFIX
from broker.wire.kinds import in_full

app = typer.Typer(no_args_is_help=True, help="Callbacks: how your server is told of settled items.")

_SHOWN = 50


class OutputFormat(StrEnum):
    TABLE = "table"
    JSON = "json"


@app.command(name="list")
def list_callbacks(
    state: Annotated[CallbackState | None, typer.Option(help="Only those in this state.")] = None,
    user: Annotated[str | None, typer.Option(metavar="USER", help="Whose; default: your own.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=default("page_items"), help="How many at most.")] = _SHOWN,
    cursor: Annotated[str | None, typer.Option(help="Go on from here: the listing before says it.")] = None,
    output: Annotated[OutputFormat, typer.Option("--output", "-o", help="How to show them.")] = OutputFormat.TABLE,
) -> None:
    """List what your servers are told, the latest event first; of those in one state the last that came into it.

    Of those that wait the one that is due next is first.
    """

    async def work(acting: Acting) -> None:
        page = await acting.researcher.callbacks(user or acting.user, state, cursor, limit)
        match output:
            case OutputFormat.TABLE:
                again = "".join(
                    f" --{name} {value}" for name, value in (("state", state), ("user", user)) if value is not None
                )
                _show(page, again)
            case OutputFormat.JSON:
                showing.stdout().file.write(showing.json_of(in_full(page)) + "\n")

    act(work)


@app.command()
def replay(
    callbacks: Annotated[list[str], typer.Argument(metavar="CALLBACK...", help="Its `webhook-id`, as it is listed.")],
) -> None:
    """Tell a server of an event once more, from the first attempt on: one that was given up, or delivered."""

    async def work(acting: Acting) -> None:
        for each in callbacks:
            view = await acting.researcher.replay_callback(each)
            what = showing.plain(view.subject or view.stream)
            showing.stdout().print(f"{showing.plain(view.callback)} is told once more: {_kind(view)} of {what}")

    act(work)


@app.command()
def test(name: Annotated[str, typer.Argument(metavar="STREAM", help="JOB or USER/JOB.")]) -> None:
    """Tell a stream's server of an event that settles nothing, now, and show what came of it."""

    async def work(acting: Acting) -> int:
        tried = await acting.researcher.test_callback(acting.stream(name))
        showing.stdout().print(f"{tried.callback}: {showing.plain(tried.sentence)}, after {tried.took_ms} ms")
        if tried.delivered:
            return Exit.DONE
        showing.stdout().print("that is no success: only an answer of 200 to 299 within 15 s is")
        return Exit.FAILED

    act(work)


def _show(page: CallbackPage, again: str) -> None:
    """Show a page; `again`: what was asked for, to go on."""
    console = showing.stdout()
    if page.callbacks:
        table = showing.table("callback", "event", "of", "state", "attempts", "last", "next", right=("attempts",))
        for each in page.callbacks:
            what = showing.plain(each.subject or each.stream)
            attempts = str(each.attempts or "-")
            table.add_row(
                showing.plain(each.callback), _kind(each), what, each.state, attempts, each.last_at or "", _next(each)
            )
        console.print(table)
    for each in page.callbacks:
        if each.sentence:
            console.print(f"{showing.plain(each.callback)}: {showing.plain(each.sentence)}", soft_wrap=True)
    counts = (f"{page.counts.get(name, 0)} {name}" for name in (*CallbackState, "dropped"))
    console.print(", ".join(counts) if page.callbacks or any(page.counts.values()) else _NONE_YET)
    if page.next_cursor is not None:
        console.print(
            f"more: `broker callback list{showing.plain(again)} --cursor {showing.plain(page.next_cursor)}`",
            soft_wrap=True,
        )


def _kind(view: CallbackView) -> str:
    return showing.plain(view.type.removeprefix(TYPE_PREFIX))


def _next(view: CallbackView) -> str:
    if view.state is not CallbackState.WAITING:
        return ""
    return view.next_at or "on its way"


_NONE_YET = "no callbacks: `broker stream add JOB --callback url=URL --callback secret=NAME` names who is told"
