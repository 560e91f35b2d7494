"""`broker user show | set`."""

from typing import Annotated

import typer

from broker.cli import showing
from broker.cli.acting import Acting, act
from broker.wire.accounts import UserSettings, UserView

app = typer.Typer(no_args_is_help=True, help="Users: their share of the grid, and how much they may have.")

Name = Annotated[str | None, typer.Argument(metavar="[USER]", help="Whose; default: your own.")]


@app.command()
def show(name: Name = None) -> None:
    """Show a user's weight, and what they have of what they may have."""

    async def work(acting: Acting) -> None:
        _show(await acting.researcher.user(name or acting.user))

    act(work)


@app.command(name="set")
def set_user(
    name: Annotated[str, typer.Argument(metavar="USER", help="Whose.")],
    weight: Annotated[int, typer.Option(min=1, help="Twice the weight is twice the vcpu-seconds.")] = 1,
    most_items: Annotated[int | None, typer.Option(min=0, help="Items that are kept at once.")] = None,
    most_bytes: Annotated[int | None, typer.Option(min=0, help="Bytes of their URLs, names and parameters.")] = None,
    most_streams: Annotated[int | None, typer.Option(min=0, help="Streams.")] = None,
) -> None:
    """Set a user's weight and bounds; what is left out is as it is for everybody. For who runs the broker."""
    settings = UserSettings(weight=weight, most_items=most_items, most_bytes=most_bytes, most_streams=most_streams)

    async def work(acting: Acting) -> None:
        _show(await acting.researcher.put_user(name, settings))

    act(work)


def _show(view: UserView) -> None:
    table = showing.pairs()
    table.add_row("user", view.user)
    table.add_row("weight", str(view.weight))
    table.add_row("items", f"{view.items} of {view.most_items}")
    table.add_row("their URLs, names and parameters", f"{showing.size(view.bytes)} of {showing.size(view.most_bytes)}")
    table.add_row("streams", f"{view.streams} of {view.most_streams}")
    showing.stdout().print(table)
