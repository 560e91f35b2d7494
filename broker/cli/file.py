"""`broker file put | get`."""

from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import typer

from broker.cli import showing
from broker.cli.acting import Acting, act
from broker.cli.exits import BadUsage, Failed
from broker.cli.progress import progress
from broker.client.files import read_content
from broker.domain.paths import FILE_SCHEME, BadPath, parse_file_path

app = typer.Typer(no_args_is_help=True, help="Files: the broker's file sharing service.")


@app.command()
def put(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="Local file.")],
    name: Annotated[str | None, typer.Argument(metavar="[PATH]", help="Name there; default: the file's own.")] = None,
) -> None:
    """Upload a file and print its address, file:USER/PATH, which a push takes as an item's input."""
    act(lambda acting: _put(acting, path, name))


@app.command()
def get(
    name: Annotated[str, typer.Argument(metavar="PATH", help="file:USER/PATH, or PATH of your own.")],
    path: Annotated[Path | None, typer.Argument(metavar="[FILE]", help="Local file; default: its own name.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a local file.")] = False,
) -> None:
    """Download a file; its digest is checked."""
    act(lambda acting: _get(acting, name, path, force))


async def _put(acting: Acting, path: Path, name: str | None) -> None:

    if not path.is_file():
        raise BadUsage(f"there is no file {path}")
    full = _full(acting, name or path.name)
    content = await read_content(path)
    with progress() as bars:
        bar = bars.bar(f"uploading {path.name}", content.size_bytes)
        view = await acting.files.put_file(path, full, content, bar)
    showing.stdout().print(view.file)


async def _get(acting: Acting, name: str, path: Path | None, force: bool) -> None:

    full = _full(acting, name)
    target = path or Path(full.rpartition("/")[2])
    if target.exists() and not force:
        raise Failed(f"{target} exists already: add --force to replace it")
    with progress() as bars:
        bar = bars.bar(f"downloading {target.name}", 0)
        content = await acting.files.get_file(f"/v1/files/{quote(full, safe='/')}", target, None, bar)
    showing.stdout().print(f"{showing.plain(str(target))}: {showing.size(content.size_bytes)}, {content.digest}")


def _full(acting: Acting, name: str) -> str:
    """Return USER/PATH of `file:USER/PATH`, or of a path of one's own.

    Checked here, because a URL's `..` would be resolved on the way: the bytes would end up under another name.
    """
    name.encode()  # before it is judged as a path: the fault of a name that is no UTF-8 is that it is none
    full = name.removeprefix(FILE_SCHEME) if name.startswith(FILE_SCHEME) else f"{acting.user}/{name.lstrip('/')}"
    try:
        return str(parse_file_path(full))
    except BadPath as error:
        raise BadUsage(str(error)) from error
