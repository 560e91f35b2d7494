"""`broker token create | list | revoke`."""

from typing import Annotated

import typer

from broker.cli import showing
from broker.cli.acting import Acting, act
from broker.cli.amounts import parse_life_s
from broker.cli.exits import tell_done
from broker.client.logins import Logins
from broker.wire.logins import NewToken, TokenView

app = typer.Typer(no_args_is_help=True, help="Tokens: for your programs, and a list of what speaks for you.")


@app.command()
def create(
    name: Annotated[str, typer.Option(help="What it is for, as it is listed.")] = "",
    scope: Annotated[
        list[str] | None,
        typer.Option(metavar="SCOPE", help="queue.read:/USER/JOB and the like, repeated; default: all of yours."),
    ] = None,
    life: Annotated[
        str | None, typer.Option(metavar="DURATION", help="90s, 12h, 30d; default: as long as your login.")
    ] = None,
    launcher: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of a launcher's token: the one launcher that may use it.")
    ] = None,
) -> None:
    """Make a token of no more than your own scopes, and print it: it is shown once.

    It ends with your login, and is revoked with it. Put it into a 0600 file that BEARER_TOKEN_FILE names.
    """

    async def work(acting: Acting) -> None:
        new = NewToken(name=name, scopes=scope, life_s=parse_life_s(life), launcher=launcher)
        kept = acting.kept
        by = kept.login if kept is not None else ""
        given = await Logins(acting.session).make_token(new, by or None)
        tell_done(f"token {given.id}, until {given.ends_at}: {' '.join(given.scopes)}")
        typer.echo(showing.plain(given.token))

    act(work)


@app.command(name="list")
def list_tokens(
    user: Annotated[str | None, typer.Option(metavar="USER", help="Another user's; for who runs the broker.")] = None,
    site: Annotated[str | None, typer.Option(metavar="SITE", help="A site's; for who runs the broker.")] = None,
) -> None:
    """List the logins and tokens that speak for you; none is shown itself."""

    async def work(acting: Acting) -> None:
        show_tokens(await Logins(acting.session).tokens(user, site))

    act(work)


@app.command()
def revoke(
    token: Annotated[str, typer.Argument(metavar="ID", help="Of a login or a token, as `broker token list` shows it.")],
) -> None:
    """Revoke a login or a token, and all that was made with it: within five seconds nothing takes it any more."""

    async def work(acting: Acting) -> None:
        count = await Logins(acting.session).revoke(token)
        tell_done("it is over already" if not count else f"revoked, and {count - 1} made with it")

    act(work)


def show_tokens(views: list[TokenView]) -> None:
    """Show a list of logins and tokens."""
    table = showing.table("id", "kind", "of", "name", "until", "may")
    for view in views:
        allowed = [*view.scopes, *(f"label {label}" for label in view.labels)]
        if view.launcher is not None:
            allowed.append(f"launcher {view.launcher} alone")
        if view.most_dispatches is not None:
            allowed.append(f"{view.most_dispatches} dispatches at once")
        shown = (view.id, view.kind, view.subject, view.name, view.ends_at)
        table.add_row(*(showing.plain(text) for text in shown), showing.plain(", ".join(allowed)))
    showing.stdout().print(table)
