"""`broker check-config`."""

import json

import typer

from broker.cli.exits import Exit, fail
from broker.settings import BadSettings, load_settings


def check_config() -> None:
    """Read the settings as `serve` would and show them, or every fault in them."""
    try:
        settings = load_settings({})
    except BadSettings as error:
        raise typer.Exit(fail(str(error), Exit.USAGE)) from error
    for name, value in settings.model_dump(mode="json").items():
        shown = json.dumps(value, ensure_ascii=False) if isinstance(value, list) else value
        typer.echo(f"{name} = {shown if shown is not None else ''}".rstrip())
