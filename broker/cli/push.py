"""`broker push`."""

import asyncio
import re
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, NamedTuple

import msgspec
import typer

from broker.cli import showing
from broker.cli.acting import Acting, act
from broker.cli.exits import BadUsage
from broker.cli.progress import Bars, progress
from broker.client.files import read_content
from broker.wire.items import NewItem, Pushed
from broker.wire.names import OwnedName

_UPLOADS = 4
_MAX_ITEMS = 1_000_000
_MAX_LINE_CHARS = 131_072
_RANGE = re.compile(r"\{(-?[0-9]{1,15})\.\.(-?[0-9]{1,15})\}")
_SCHEMES = ("http://", "https://", "file:")
_DIGEST_CHARS = 16


class _Source(NamedTuple):
    """One item to be: a URL, a local file, a whole item as JSON, or nothing but parameters."""

    url: str | None = None
    file: Path | None = None
    json: str | None = None


def push(
    stream: Annotated[str, typer.Argument(help="JOB or USER/JOB.")],
    inputs: Annotated[
        list[str] | None,
        typer.Argument(metavar="FILE|URL", help="Local files are uploaded, URLs are taken as is."),
    ] = None,
    from_file: Annotated[
        str | None, typer.Option("--from", metavar="FILE", help="A FILE, URL or JSON item a line; - reads stdin.")
    ] = None,
    count: Annotated[int | None, typer.Option(min=1, max=_MAX_ITEMS, help="Items without an input.")] = None,
    param: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="Parameter of every item; '{1..500}' gives each item the next number."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the item, when there is one.")] = None,
    key: Annotated[
        str | None, typer.Option(metavar="KEY", help="Pushed again with the same key, nothing is added twice.")
    ] = None,
) -> None:
    """Push items into a stream. Each is one vm, one run of the stream's program, one result."""
    sources = [*map(_source, inputs or []), *(_read_sources(from_file) if from_file else ())]
    act(lambda acting: _push(acting, stream, sources, count, param or [], name, key))


async def _push(
    acting: Acting,
    stream: str,
    sources: list[_Source],
    count: int | None,
    params: list[str],
    name: str | None,
    key: str | None,
) -> None:

    ref = acting.stream(stream)
    values = _params(params, len(sources) or count)
    if not sources:
        if count is None and not params:
            raise BadUsage("there is nothing to push: name files or URLs, or give --from, --count or --param")
        sources = [_Source()] * (count or max((len(column) for column in values.values()), default=1))
    elif count is not None:
        raise BadUsage("--count is for items without an input: leave it out, or the files and URLs")
    if name is not None and len(sources) != 1:
        raise BadUsage("--name is for one item; in a --from file each line may be JSON with a name")
    await acting.researcher.stream(ref)  # before anything is uploaded for it
    items = await _items(acting, ref, sources, values, name)
    pushed = [chunk async for chunk in acting.researcher.push(ref, items, key or uuid.uuid4().hex)]
    showing.stdout().print(_sentence(pushed), markup=False)


def _sentence(pushed: list[Pushed]) -> str:
    first, last = pushed[0].first, pushed[-1].last
    stream = pushed[0].stream
    total = sum(chunk.accepted for chunk in pushed)
    disk = "" if pushed[0].durability == "fsync" else f" (durability: {pushed[0].durability})"
    if total == 1:
        return f"1 item pushed: {stream}/{first}{disk}"
    return f"{total} items pushed: {stream}/{first} to {stream}/{last}{disk}"


async def _items(
    acting: Acting, ref: OwnedName, sources: list[_Source], values: dict[str, list[str]], name: str | None
) -> list[NewItem]:

    uploads: dict[Path, str] = {}
    with progress() as bars:
        waiting = asyncio.Semaphore(_UPLOADS)

        async def upload(path: Path) -> None:
            async with waiting:
                uploads[path] = await _upload(acting, ref, path, bars)

        files = {source.file for source in sources if source.file}
        await asyncio.gather(*(upload(path) for path in files))
    return [
        _item(source, uploads, {param: column[index % len(column)] for param, column in values.items()}, name)
        for index, source in enumerate(sources)
    ]


async def _upload(acting: Acting, ref: OwnedName, path: Path, bars: Bars) -> str:
    """Upload an input under a name made of its digest, so that no later push can change it under an item."""
    content = await read_content(path)
    folder = content.digest.removeprefix("sha256:")[:_DIGEST_CHARS]
    full = f"{ref.user}/{ref.name}/inputs/{folder}/{path.name}"
    bar = bars.bar(f"uploading {path.name}", content.size_bytes)
    view = await acting.files.put_file(path, full, content, bar, create_only=True)
    return view.file


def _item(source: _Source, uploads: dict[Path, str], params: dict[str, str], name: str | None) -> NewItem:

    if source.json is not None:
        try:
            given = msgspec.json.decode(source.json, type=NewItem)
        except msgspec.DecodeError as error:
            raise BadUsage(f"{source.json[:80]!r} is no item: {error}") from error
        return msgspec.structs.replace(given, params={**params, **given.params})
    if source.file is not None:
        return NewItem(url=uploads[source.file], name=name or source.file.name, params=params)
    return NewItem(url=source.url, name=name, params=params)


def _source(text: str) -> _Source:
    if text.startswith(_SCHEMES):
        return _Source(url=text)
    if not Path(text).is_file():
        raise typer.BadParameter(f"{text!r} is neither a file here nor a URL (http:, https:, file:)")
    return _Source(file=Path(text))


def _read_sources(file: str) -> Iterator[_Source]:
    try:
        text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"{file} cannot be read: {error}") from error
    for line in text.splitlines():
        stripped = line.strip()
        if len(stripped) > _MAX_LINE_CHARS:
            raise typer.BadParameter(f"{file} has a line of more than {_MAX_LINE_CHARS} characters")
        if stripped:
            yield _Source(json=stripped) if stripped.startswith("{") else _source(stripped)


def _params(params: list[str], count: int | None) -> dict[str, list[str]]:
    """Return each parameter's values: one for all items, or one for each."""
    values: dict[str, list[str]] = {}
    for text in params:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise BadUsage(f"--param {text}: write NAME=VALUE")
        values[name] = _expand(value)
    lengths = {len(column) for column in values.values() if len(column) > 1}
    if len(lengths) > 1 or (lengths and count is not None and lengths != {count}):
        wanted = count if count is not None else max(lengths)
        raise BadUsage(f"--param: a range must give as many values as there are items ({wanted})")
    return values


def _expand(value: str) -> list[str]:
    match = _RANGE.search(value)
    if not match:
        return [value]
    first, last = int(match[1]), int(match[2])
    if abs(last - first) >= _MAX_ITEMS:
        raise BadUsage(f"--param: {match[0]} has more than {_MAX_ITEMS} values")
    numbers = range(first, last + 1) if first <= last else range(first, last - 1, -1)
    return [f"{value[: match.start()]}{number}{value[match.end() :]}" for number in numbers]
