"""`broker serve`."""

import asyncio
from pathlib import Path
from typing import Annotated

import structlog
import typer

from broker.app import serve as run_broker
from broker.auth.key_files import BadKeys
from broker.cli.exits import Exit, fail
from broker.domain.errors import Unavailable
from broker.listening import CannotServe
from broker.settings import BadSettings, Settings, load_settings
from broker.telemetry import configure_logging


def serve(
    data: Annotated[Path | None, typer.Option(help="Folder of everything the broker keeps.")] = None,
    listen: Annotated[
        str | None, typer.Option(metavar="HOST:PORT", help="Where to listen; port 0: a free one.")
    ] = None,
    host: Annotated[
        str | None, typer.Option(metavar="HOST", help="Another host to listen on, at the port of --listen.")
    ] = None,
    store: Annotated[str | None, typer.Option(metavar="URL", help="A Redis or Valkey; absent: one of its own.")] = None,
    callbacks_store: Annotated[
        str | None, typer.Option(metavar="URL", help="A Redis for RQ, which executes callbacks; see the settings.")
    ] = None,
    public_url: Annotated[str | None, typer.Option(metavar="URL", help="Address that others reach it by.")] = None,
    tls_cert: Annotated[Path | None, typer.Option(help="PEM file of the certificate and its chain.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="PEM file of the certificate's key.")] = None,
    workers: Annotated[
        int | None, typer.Option(metavar="N", help="Processes that serve, 1 to 64; one a core is plenty.")
    ] = None,
    user: Annotated[str | None, typer.Option(metavar="NAME", help="User who is logged in on this machine.")] = None,
    log_format: Annotated[str | None, typer.Option(help="text or json.")] = None,
    log_level: Annotated[str | None, typer.Option(help="debug, info, warning or error.")] = None,
    ready_file: Annotated[Path | None, typer.Option(help="File that is written when it listens.")] = None,
) -> None:
    """Run a broker, with a store of its own unless one is named, until SIGTERM or Ctrl-C.

    At each start it logs in its first user and launcher on this machine: login.json and launcher.json, 0600, in
    $XDG_CONFIG_HOME/vmbroker. Beyond loopback it listens with TLS only.
    """
    try:
        settings = load_settings(
            {
                "data": data,
                "listen": listen,
                "host": host,
                "store": store,
                "callbacks_store": callbacks_store,
                "public_url": public_url,
                "tls_cert": tls_cert,
                "tls_key": tls_key,
                "workers": workers,
                "user": user,
                "log_format": log_format,
                "log_level": log_level,
            }
        )
    except BadSettings as error:
        raise typer.Exit(fail(str(error), Exit.USAGE)) from error
    _run(settings, ready_file)


def _run(settings: Settings, ready_file: Path | None) -> None:
    configure_logging(settings.log_format, settings.log_level)
    try:
        asyncio.run(run_broker(settings, ready_file))
    except (CannotServe, BadKeys, Unavailable) as error:
        raise typer.Exit(fail(str(error), Exit.FAILED)) from error
    except OSError as error:
        raise typer.Exit(fail(f"{error.filename or settings.data}: {error.strerror}", Exit.FAILED)) from error
    except ExceptionGroup:
        structlog.get_logger(__name__).exception("broker_crashed")
        raise typer.Exit(fail("a part of the broker crashed; the log has the reason", Exit.FAILED)) from None
