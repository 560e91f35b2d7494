"""`broker results`."""

import asyncio
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import typer
from rich.console import Console

from broker.cli import showing
from broker.cli.acting import Acting, act
from broker.cli.exits import Exit, Failed, tell
from broker.cli.progress import progress
from broker.client.errors import CallError
from broker.client.files import Content, DownloadDiffers, read_content
from broker.domain.paths import FILE_SCHEME
from broker.wire.files import ResultLine
from broker.wire.items import OutputFile
from broker.wire.names import BadName, check_digest

_DOWNLOADS = 4
_FAILURES = 20
"""Files told of that were not downloaded; nobody reads a thousand lines."""


class OutputFormat(StrEnum):
    TABLE = "table"
    JSON = "json"
    JSONL = "jsonl"


def results(
    stream: Annotated[str, typer.Argument(help="JOB or USER/JOB.")],
    download: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Download every output to DIR/ITEM/NAME, verified.")
    ] = None,
    output: Annotated[OutputFormat, typer.Option("--output", "-o", help="How to show them.")] = OutputFormat.TABLE,
    force: Annotated[bool, typer.Option("--force", help="Replace local files that hold something else.")] = False,
) -> None:
    """Show the results of done and held items, and download their outputs.

    A downloaded file is checked against its size and digest. One that is there already with the same bytes is left; one
    with other bytes is replaced only with --force.
    """
    act(lambda acting: _results(acting, stream, download, output, force))


async def _results(acting: Acting, stream: str, folder: Path | None, output: OutputFormat, force: bool) -> int:

    lines = [line async for line in acting.researcher.results(acting.stream(stream))]
    lines.sort(key=lambda line: int(line.item.rpartition("/")[2]))
    console = showing.stdout()
    match output:
        case OutputFormat.TABLE:
            print_table(console, stream, lines)
        case OutputFormat.JSON:
            _print_json(console, lines)
        case OutputFormat.JSONL:
            for line in lines:
                _print_json(console, line)
    return await download_all(acting, lines, folder, force) if folder is not None else Exit.DONE


def print_table(console: Console, stream: str, lines: list[ResultLine]) -> None:
    """Show results, one row an output."""
    if not lines:
        console.print(f"no results of {stream} yet: follow it with `broker watch {stream}`")
        return
    table = showing.table("item", "state", "name", "exit", "output", "size", "sha256", right=("exit", "size"))
    for line in lines:
        name = showing.plain(line.name or (line.url or "").rpartition("/")[2])
        head = (line.item.partition("/")[2], showing.state(line.state), name, _exit_code(line))
        if not line.outputs:
            table.add_row(*head, "", "", "")
        for number, file in enumerate(line.outputs):
            row = head if number == 0 else ("", "", "", "")
            table.add_row(*row, showing.plain(file.name), showing.size(file.size_bytes), showing.short(file.digest))
    console.print(table)
    for line in lines:
        if line.reason:
            console.print(f"{line.item.partition('/')[2]}: {showing.plain(line.reason.sentence)}")


def _exit_code(line: ResultLine) -> str:
    return "" if line.exit_code is None else str(line.exit_code)


def _print_json(console: Console, value: object) -> None:

    console.file.write(showing.json_of(value) + "\n")


async def download_all(acting: Acting, lines: list[ResultLine], folder: Path, force: bool) -> int:
    """Download every output, each verified; return the exit status. What fails is told, and the rest goes on."""
    files = [(line.item, file) for line in lines for file in line.outputs]
    failed: list[str] = []
    with progress() as bars:
        bar = bars.bar(f"downloading to {folder}", sum(max(file.size_bytes, 0) for _, file in files))
        waiting = asyncio.Semaphore(_DOWNLOADS)

        async def download(item: str, file: OutputFile) -> bool | None:
            async with waiting:
                try:
                    return await _download(acting, local_path(folder, item, file.name), file, force, bar)
                except (Failed, CallError, DownloadDiffers, BadName, OSError) as error:
                    failed.append(_failure(item, file, error))
                    return None

        outcomes = await asyncio.gather(*(download(item, file) for item, file in files))
    kept = outcomes.count(False)
    already = f", {kept} already there" if kept else ""
    done = f"{outcomes.count(True)} files downloaded to {folder}{already}, sizes and digests verified"
    showing.stderr().print(done, soft_wrap=True)
    if failed:
        more = [f"and {len(failed) - _FAILURES} more"] if len(failed) > _FAILURES else []
        tell(f"{len(failed)} files were not downloaded", *failed[:_FAILURES], *more)
        return Exit.FAILED
    return Exit.DONE


def _failure(item: str, file: OutputFile, error: Exception) -> str:
    """Say what is wrong with one file: the others are downloaded all the same."""
    what = f"{error.filename2 or error.filename}: {error.strerror}" if isinstance(error, OSError) else str(error)
    return f"{item}, {showing.plain(file.name)}: {showing.plain(what)}"


async def _download(acting: Acting, path: Path, file: OutputFile, force: bool, bar: Callable[[int], None]) -> bool:
    """Download one output; False when the same bytes are there already."""
    expected = Content(check_digest(file.digest), file.size_bytes)
    if path.is_symlink() or path.exists():
        if path.is_file() and await read_content(path) == expected:
            bar(file.size_bytes)
            return False
        if not force:
            raise Failed(f"{path} exists with other bytes: add --force to replace it")
    path.parent.mkdir(parents=True, exist_ok=True)
    await acting.files.get_file(file.url, path, expected, bar)
    return True


def address_of(url: str) -> str:
    """Return the address at the broker of an output that its file service keeps; any other's is its own."""
    return f"/v1/files/{quote(url.removeprefix(FILE_SCHEME), safe='/')}" if url.startswith(FILE_SCHEME) else url


def local_path(folder: Path, item: str, name: str) -> Path:
    """Return where an output is put: below the folder, whatever its name tries.

    Raises:
        Failed: the name would lead outside, or is no file's name here.
    """
    parts = name.split("/")
    if any(part in {"", ".", ".."} or "\0" in part or "\\" in part for part in parts):
        raise Failed(f"the output name {name!r} of {item} is refused: it could lead outside of {folder}")
    return folder.joinpath(item.rpartition("/")[2], *parts)
