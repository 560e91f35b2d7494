"""The `launcher` command's tree.

Exit statuses: 0 stopped as asked, 1 the node or the broker does not allow it, 2 wrong settings.
"""

import importlib.metadata
from typing import Annotated

import typer

from launcher.batch.commands import jobs, provision, remove, submit
from launcher.check_config import check_config
from launcher.commands_node import advertise, doctor, drain, ps, run
from launcher.commands_tools import bundle, check_machine

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Run researchers' virtual machines on this node, one for each item that a broker gives out.",
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"launcher {importlib.metadata.version('vmbroker')}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Run researchers' virtual machines on this node, one for each item that a broker gives out."""


# On a node.
app.command()(run)
app.command()(check_config)
app.command()(doctor)
app.command()(advertise)
app.command()(ps)
app.command()(drain)
# Anywhere.
app.command()(check_machine)
app.command()(bundle)
# Where jobs are submitted to a batch system: neither libvirt nor lxml is there.
app.command()(submit)
app.command()(jobs)
app.command()(remove)
app.command()(provision)
