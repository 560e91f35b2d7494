"""`broker user add | show | set | logout`."""

from typing import Annotated

import typer

from broker.cli import showing
from broker.cli.acting import Acting, act
from broker.cli.amounts import parse_life_s
from broker.cli.exits import tell_done
from broker.client.logins import Logins
from broker.wire.accounts import UserSettings, UserView
from broker.wire.logins import NewCode

app = typer.Typer(no_args_is_help=True, help="Users: let them in, their share of the grid, and how much they may have.")

Name = Annotated[str | None, typer.Argument(metavar="[USER]", help="Whose; default: your own.")]


@app.command()
def add(
    name: Annotated[str, typer.Argument(metavar="USER", help="Their name here.")],
    operator: Annotated[bool, typer.Option("--operator", help="Who runs the broker, too.")] = False,
    life: Annotated[
        str | None, typer.Option(metavar="DURATION", help="How long the code may be used: 1h, 7d; default: 1d.")
    ] = None,
) -> None:
    """Let a user in: print a one-time code to hand over. They type it at `broker login URL`.

    It is shown once. Again for the same user, it is for another machine of theirs. For who runs the broker.
    """

    async def work(acting: Acting) -> None:
        new = NewCode(is_operator=operator, life_s=parse_life_s(life))
        given = await Logins(acting.session).make_code(name, new)
        typer.echo(showing.plain(given.code))
        tell_done(
            f"for {given.user}, once, until {given.ends_at}: `broker login {acting.session.base_url}` asks for it"
        )

    act(work)


@app.command()
def logout(name: Annotated[str, typer.Argument(metavar="USER", help="Whom.")]) -> None:
    """Log a user out everywhere: every login and token of theirs is revoked. For who runs the broker."""

    async def work(acting: Acting) -> None:
        tell_done(f"revoked {await Logins(acting.session).log_out_everywhere(name)} logins and tokens of {name}")

    act(work)


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
    most_file_bytes: Annotated[int | None, typer.Option(min=0, help="Bytes of their files.")] = None,
    most_image_bytes: Annotated[int | None, typer.Option(min=0, help="Bytes of their images.")] = None,
    targets: Annotated[
        list[str] | None,
        typer.Option(metavar="PREFIX", help="Where their targets may be, e.g. s3://lab/results; repeat for several."),
    ] = None,
) -> None:
    """Set a user's weight and bounds; what is left out is as it is for everybody. For who runs the broker."""
    settings = UserSettings(
        weight=weight,
        most_items=most_items,
        most_bytes=most_bytes,
        most_streams=most_streams,
        most_file_bytes=most_file_bytes,
        most_image_bytes=most_image_bytes,
        targets=None if targets is None else tuple(targets),
    )

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
    table.add_row("files", f"{showing.size(view.file_bytes)} of {showing.size(view.most_file_bytes)}")
    table.add_row("images", f"{showing.size(view.image_bytes)} of {showing.size(view.most_image_bytes)}")
    table.add_row("targets", showing.plain(", ".join(view.targets)) if view.targets else "anywhere")
    showing.stdout().print(table)
