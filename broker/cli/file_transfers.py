"""What `broker file put | get` do: one file or many, some at once, a large one in parts at once."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from broker.cli import showing
from broker.cli.acting import Acting
from broker.cli.exits import BadUsage, Failed
from broker.cli.file_names import file_name, folder_name
from broker.cli.progress import Bars, progress
from broker.client.errors import ApiError
from broker.client.files import Content, read_content
from broker.client.gathering import gathered
from broker.wire.files import EntryView
from broker.wire.names import check_digest
from broker.wire.problems import ProblemCode

_AT_ONCE = 3
"""Files: a large one has 4 parts beside, and a user 16 unfinished uploads."""
_MOST = 100_000


class _Sent(NamedTuple):
    path: Path
    name: str


async def put_all(acting: Acting, paths: list[str], to: str | None) -> None:
    """Upload; the address of each file is printed when it is there."""
    files = list(_sent(acting, paths, to))
    if len(files) > _MOST:
        raise BadUsage(f"these are more than {_MOST} files: upload them folder by folder")
    with progress() as bars:
        await gathered([_put(acting, bars, each) for each in files], _AT_ONCE)


async def get_all(acting: Acting, name: str, path: Path | None, force: bool) -> None:
    """Download a file, or every file below a folder; each is told when it is there."""
    if not name.endswith("/"):
        full = file_name(acting, name)
        target = path or Path(full.rpartition("/")[2])
        _check_free(target, force)
        try:
            with progress() as bars:
                await _get(acting, bars, full, target, None)
        except ApiError as error:
            if error.code is ProblemCode.NOT_FOUND:
                error.add_note(f"a folder is named with a slash at its end: {name}/")
            raise
        return
    full = folder_name(acting, name)
    folder = path or Path(full.rstrip("/").rpartition("/")[2])
    entries = [entry async for entry in acting.folders.entries(full, is_deep=True)]
    if len(entries) > _MOST:
        raise BadUsage(f"these are more than {_MOST} files: download them folder by folder")
    for entry in entries:
        file_name(acting, f"file:{full}{entry.name}")  # a name that leads elsewhere is refused, whoever told it
        _check_free(folder / entry.name, force)
    with progress() as bars:
        await gathered([_get_below(acting, bars, full, folder, entry) for entry in entries], _AT_ONCE)


def _sent(acting: Acting, paths: list[str], to: str | None) -> Iterator[_Sent]:
    if to is None:
        if len(paths) == 2 and (Path(paths[1]).exists() and Path(paths[1]).name == paths[1] != Path(paths[0]).name):
            raise BadUsage(f"{paths[1]} is a local file, too: say --to FOLDER to upload both")
        if len(paths) > 2 or Path(paths[0]).is_dir():
            raise BadUsage("say --to FOLDER for several files, or for folders; `--to /` is your own")
        path = Path(paths[0])
        _check_there(path)
        yield _Sent(path, file_name(acting, paths[1] if len(paths) == 2 else path.name))
        return
    folder = f"file:{folder_name(acting, to)}"
    for path in map(Path, paths):
        if not path.is_dir():
            _check_there(path)
            yield _Sent(path, file_name(acting, f"{folder}{path.name}"))
            continue
        for below in _files_below(path):
            yield _Sent(below, file_name(acting, f"{folder}{path.resolve().name}/{below.relative_to(path).as_posix()}"))


def _files_below(folder: Path) -> Iterator[Path]:
    """Yield the regular files; links are not followed to other folders."""
    for root, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            path = Path(root) / name
            if path.is_file():
                yield path


async def _put(acting: Acting, bars: Bars, sent: _Sent) -> None:
    content = await read_content(sent.path)
    bar = bars.bar(f"uploading {showing.plain(sent.path.name)}", content.size_bytes)
    view = await acting.files.put_file(sent.path, sent.name, content, bar)
    showing.stdout().print(view.file)


async def _get_below(acting: Acting, bars: Bars, full: str, folder: Path, entry: EntryView) -> None:
    target = folder / entry.name
    target.parent.mkdir(parents=True, exist_ok=True)
    expected = Content(check_digest(entry.digest or ""), entry.size_bytes or 0)
    await _get(acting, bars, f"{full}{entry.name}", target, expected)


async def _get(acting: Acting, bars: Bars, full: str, target: Path, expected: Content | None) -> None:
    bar = bars.bar(f"downloading {showing.plain(target.name)}", expected.size_bytes if expected else None)
    content = await acting.files.get_file(f"/v1/files/{quote(full, safe='/')}", target, expected, bar)
    showing.stdout().print(f"{showing.plain(str(target))}: {showing.size(content.size_bytes)}, {content.digest}")


def _check_there(path: Path) -> None:
    if not path.is_file():
        raise BadUsage(f"there is no file {path}")


def _check_free(target: Path, force: bool) -> None:
    if target.exists() and not force:
        raise Failed(f"{target} exists already: add --force to replace it")
