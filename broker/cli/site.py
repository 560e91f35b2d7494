"""`broker site add | list | rm`."""

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from broker.cli import showing
from broker.cli.acting import Acting, act
from broker.cli.amounts import parse_life_s
from broker.cli.exits import BadUsage, tell_done
from broker.cli.token import show_tokens
from broker.client.login import LoginFile
from broker.client.logins import Logins
from broker.client.private_files import write_private
from broker.wire.logins import NewSiteToken

app = typer.Typer(no_args_is_help=True, help="Sites: those that lend nodes, and the tokens of their launchers.")

Name = Annotated[str, typer.Argument(metavar="SITE", help="The site's name, which its launchers' names begin with.")]


@app.command()
def add(
    site: Name,
    users: Annotated[str, typer.Option(metavar="USERS", help="Whom it may serve: alice,bob; '*' is everybody.")],
    label: Annotated[
        list[str] | None,
        typer.Option(metavar="LABEL", help="What you vouch for, repeated; streams trust labels with their secrets."),
    ] = None,
    most_dispatches: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Items that all of its launchers may hold at once.")
    ] = None,
    launcher: Annotated[
        str | None, typer.Option(metavar="NAME", help="Bind the token to the one launcher of this name.")
    ] = None,
    life: Annotated[str | None, typer.Option(metavar="DURATION", help="12h, 30d; default: 90d.")] = None,
    name: Annotated[str, typer.Option(help="What the token is called in lists.")] = "",
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Write it there, 0600, in place of stdout.")] = None,
) -> None:
    """Make a token for a site's launchers and print the launcher.json that the site puts on its nodes.

    It is shown once. Launchers find it as $XDG_CONFIG_HOME/vmbroker/launcher.json; keep it 0600.
    """

    async def work(acting: Acting) -> None:
        new = NewSiteToken(
            name=name,
            users=_served(users),
            labels=label or [],
            most_dispatches=most_dispatches,
            launcher=launcher,
            life_s=parse_life_s(life),
        )
        given = await Logins(acting.session).make_site_token(site, new)
        kept = acting.kept
        ca_pem = "" if kept is None else kept.ca_pem
        content = LoginFile(url=acting.session.base_url, token=given.token, ends_at=given.ends_at, ca_pem=ca_pem)
        text = msgspec.json.format(msgspec.json.encode(content)).decode()
        if out is None:
            typer.echo(showing.visible(text))
        else:
            write_private(out, text + "\n")
        tell_done(f"token {given.id} of {site}, until {given.ends_at}: put this on its nodes as launcher.json, 0600")

    act(work)


@app.command(name="list")
def list_sites() -> None:
    """List the tokens of all sites."""

    async def work(acting: Acting) -> None:
        show_tokens(await Logins(acting.session).sites())

    act(work)


@app.command()
def rm(site: Name) -> None:
    """Revoke every token of a site: its launchers get nothing more, and what they hold goes to others in time."""

    async def work(acting: Acting) -> None:
        tell_done(f"revoked {await Logins(acting.session).revoke_site(site)} tokens of {site}")

    act(work)


def _served(users: str) -> list[str] | None:
    if users == "*":
        return None
    served = [user for user in users.split(",") if user]
    if not served:
        raise BadUsage("--users names nobody: write alice,bob, or '*' for everybody")
    return served
