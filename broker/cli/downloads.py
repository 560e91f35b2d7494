"""Outputs of items on their way to this machine: several at once, each verified, and what fails is told at the end."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

from broker.cli import showing
from broker.cli.acting import Acting
from broker.cli.exits import Exit, Failed, tell
from broker.cli.progress import Bars, progress
from broker.client.errors import CallError
from broker.client.files import Content, DownloadDiffers, read_content, silent
from broker.domain.paths import FILE_SCHEME
from broker.wire.files import ResultLine
from broker.wire.items import OutputFile
from broker.wire.names import BadName, check_digest, parse_item

_DOWNLOADS = 4
_FAILURES = 20
"""Files told of that were not downloaded; nobody reads a thousand lines."""
_AS_IT_IS = ("http://", "https://", "/")
_BY_THE_BROKER = ("s3://", "dav://", "davs://")
"""Where the broker can tell a plain address, or sign one."""


async def download_all(acting: Acting, lines: Sequence[ResultLine], folder: Path, force: bool) -> int:
    """Download every output, each verified; return the exit status. What fails is told, and the rest goes on."""
    total_bytes = sum(max(file.size_bytes, 0) for line in lines for file in line.outputs)
    with progress() as bars:
        async with Downloads(acting, folder, force, bars, total_bytes) as downloads:
            for line in lines:
                await downloads.add(line)
    return downloads.tell()


class Downloads:
    """Use it as a context, whose end waits for what was added. Without a folder nothing is downloaded.

    `total_bytes`: of all that will be added, where that is known.
    """

    def __init__(
        self, acting: Acting, folder: Path | None, force: bool, bars: Bars, total_bytes: int | None = None
    ) -> None:
        self._acting = acting
        self._folder = folder
        self._force = force
        self._bar = bars.bar(f"downloading to {folder}", total_bytes) if folder is not None else silent
        self._places = asyncio.Semaphore(_DOWNLOADS)
        self._going: set[asyncio.Task[None]] = set()
        self._outcomes: list[bool] = []
        self._failed: list[str] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            for task in self._going:
                task.cancel()
        await asyncio.gather(*self._going, return_exceptions=error is not None)

    async def add(self, line: ResultLine) -> None:
        """Begin with an item's outputs, as soon as there is a place for each: those that wait take no memory."""
        if self._folder is None:
            return
        for file in line.outputs:
            await self._places.acquire()
            task = asyncio.create_task(self._one(self._folder, line.item, file))
            self._going.add(task)
            task.add_done_callback(self._going.discard)

    def tell(self) -> int:
        """Say what came of it; return the exit status."""
        kept = self._outcomes.count(False)
        already = f", {kept} already there" if kept else ""
        count = self._outcomes.count(True)
        said = f"{count} files downloaded to {self._folder}{already}, sizes and digests verified"
        showing.stderr().print(said, soft_wrap=True)
        if not self._failed:
            return Exit.DONE
        more = [f"and {len(self._failed) - _FAILURES} more"] if len(self._failed) > _FAILURES else []
        tell(f"{len(self._failed)} files were not downloaded", *self._failed[:_FAILURES], *more)
        return Exit.FAILED

    async def _one(self, folder: Path, item: str, file: OutputFile) -> None:
        try:
            path = local_path(folder, item, file.name)
            self._outcomes.append(await _download(self._acting, item, path, file, self._force, self._bar))
        except (Failed, CallError, DownloadDiffers, BadName, OSError) as error:
            self._failed.append(_failure(item, file, error))
        finally:
            self._places.release()


def _failure(item: str, file: OutputFile, error: Exception) -> str:
    """Say what is wrong with one file: the others are downloaded all the same."""
    what = f"{error.filename2 or error.filename}: {error.strerror}" if isinstance(error, OSError) else str(error)
    return f"{item}, {showing.plain(file.name)}: {showing.plain(what)}"


async def _download(
    acting: Acting, item: str, path: Path, file: OutputFile, force: bool, bar: Callable[[int], None]
) -> bool:
    """Download one output; False when the same bytes are there already."""
    expected = Content(check_digest(file.digest), file.size_bytes)
    if path.is_symlink() or path.exists():
        if path.is_file() and await read_content(path) == expected:
            bar(file.size_bytes)
            return False
        if not force:
            raise Failed(f"{path} exists with other bytes: add --force to replace it")
    path.parent.mkdir(parents=True, exist_ok=True)
    await acting.files.get_file(address_to_get(item, file), path, expected, bar)
    return True


def address_to_get(item: str, file: OutputFile) -> str:
    """Return where an output can be had with a researcher's token.

    Raises:
        Failed: nobody but a program of another kind can get it.
    """
    if file.url.startswith(_AS_IT_IS):
        return file.url
    if file.url.startswith(_BY_THE_BROKER):
        ref = parse_item(item, None)
        return f"/v1/streams/{ref.stream}/items/{ref.number}/outputs/{quote(file.name, safe='/')}"
    raise Failed(f"it is at {file.url}, which only a program for such addresses can fetch")


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
