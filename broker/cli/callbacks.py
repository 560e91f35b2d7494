"""`broker callbacks`."""

from pathlib import Path
from typing import Annotated

import typer

from broker.app import callback_duties
from broker.auth.key_files import BadKeys
from broker.callbacks.working import work_until_stopped
from broker.cli.exits import Exit, fail
from broker.domain.errors import Unavailable
from broker.settings import BadSettings, load_settings
from broker.telemetry import configure_logging


def callbacks(
    data: Annotated[Path | None, typer.Option(help="The broker's data folder: its keys open what signs.")] = None,
    store: Annotated[str | None, typer.Option(metavar="URL", help="The broker's store.")] = None,
    callbacks_store: Annotated[
        str | None, typer.Option(metavar="URL", help="A Redis for RQ, the broker's one; absent: the store.")
    ] = None,
    log_format: Annotated[str | None, typer.Option(help="text or json.")] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error.")] = None,
) -> None:
    """Tell users' servers of settled items, beside a broker over a named store, until SIGTERM or Ctrl-C.

    Run one or more, with the settings of `broker serve`. A broker with a store of its own does this itself.
    """
    try:
        settings = load_settings(
            {
                "data": data,
                "store": store,
                "callbacks_store": callbacks_store,
                "log_format": log_format,
                "log_level": log_level,
            }
        )
    except BadSettings as error:
        raise typer.Exit(fail(str(error), Exit.USAGE)) from error
    if settings.store is None:
        raise typer.Exit(
            fail("a broker with a store of its own tells callbacks itself; for another one give --store", Exit.USAGE)
        )
    if not (settings.data / "keys").is_dir():
        raise typer.Exit(
            fail(f"there are no keys in {settings.data}: give --data, the data folder of the broker", Exit.USAGE)
        )
    configure_logging(settings.log_format, settings.log_level)
    queue = settings.callbacks_store or settings.store
    try:
        work_until_stopped(callback_duties(settings, settings.store, queue))
    except (BadKeys, Unavailable, OSError) as error:
        raise typer.Exit(fail(str(error), Exit.FAILED)) from error
