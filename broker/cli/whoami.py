"""`broker whoami`."""

from broker.cli import showing
from broker.cli.acting import Acting, act


def whoami() -> None:
    """Show where you are logged in, as whom, and until when."""
    act(_whoami)


async def _whoami(acting: Acting) -> None:

    who = await acting.researcher.whoami()
    table = showing.pairs()
    table.add_row("broker", acting.session.base_url)
    table.add_row("user", who.user)
    table.add_row("until", who.expires_at)
    kept = acting.kept
    if kept is not None and kept.login:
        table.add_row("renewed until", kept.login_ends_at)
    table.add_row("scopes", "\n".join(who.scopes))
    showing.stdout().print(table)
