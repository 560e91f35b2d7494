"""`broker file put | get | ls | rm | share`."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from broker.cli.acting import act
from broker.cli.amounts import parse_duration_ms

app = typer.Typer(no_args_is_help=True, help="Files: the broker's file sharing service.")


class OutputFormat(StrEnum):
    TABLE = "table"
    JSON = "json"
    JSONL = "jsonl"


@app.command()
def put(
    paths: Annotated[
        list[str],
        typer.Argument(metavar="FILE [PATH] | FILE... --to FOLDER", help="Local file; several, or folders, with --to."),
    ],
    to: Annotated[
        str | None, typer.Option("--to", metavar="FOLDER", help="Folder there for all of them; `/`: your own.")
    ] = None,
) -> None:
    """Upload files and print their addresses, file:USER/PATH, which a push takes as an item's input.

    What is cut off goes on where it was when the command is given again.
    """
    from broker.cli.file_transfers import put_all

    act(lambda acting: put_all(acting, paths, to))


@app.command()
def get(
    name: Annotated[str, typer.Argument(metavar="PATH", help="file:USER/PATH, or PATH of your own; a folder: PATH/.")],
    path: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="Local file or folder; default: its own name.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace local files.")] = False,
) -> None:
    """Download a file, or all that is in a folder; digests are checked.

    What is cut off goes on where it was when the command is given again.
    """
    from broker.cli.file_transfers import get_all

    act(lambda acting: get_all(acting, name, path, force))


@app.command()
def ls(
    folder: Annotated[
        str, typer.Argument(metavar="[FOLDER]", help="file:USER/FOLDER, or FOLDER of your own; default: all of it.")
    ] = "",
    recursive: Annotated[bool, typer.Option("--recursive", "-r", help="Every file below, however deep.")] = False,
    output: Annotated[OutputFormat, typer.Option("--output", "-o", help="How to show them.")] = OutputFormat.TABLE,
) -> None:
    """List the files and folders in a folder."""
    from broker.cli.file_acts import list_folder

    act(lambda acting: list_folder(acting, folder, recursive, output.value))


@app.command()
def rm(
    names: Annotated[list[str], typer.Argument(metavar="PATH...", help="file:USER/PATH, or PATH of your own.")],
    recursive: Annotated[bool, typer.Option("--recursive", "-r", help="Folders, too, with every file below.")] = False,
) -> None:
    """Remove files, and print the address of each that was removed."""
    from broker.cli.file_acts import remove

    act(lambda acting: remove(acting, names, recursive))


@app.command()
def share(
    name: Annotated[str, typer.Argument(metavar="PATH", help="file:USER/PATH, or PATH of your own; a folder: PATH/.")],
    life: Annotated[str, typer.Option(help="How long it is good: 2h, 7d; at most 30d.")] = "7d",
    write: Annotated[bool, typer.Option("--write", help="To make the file, once, and not to read it.")] = False,
) -> None:
    """Print a signed address of a file or folder: whoever has it may read it, without a login, until its life ends."""
    from broker.cli.file_acts import share_name

    act(lambda acting: share_name(acting, name, parse_duration_ms(life, "--life") // 1_000, write))
