"""From sources to chunks of a push, each accepted as a whole.

They are made when they are needed, and always the same for the same sources.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from broker.cli.acting import Acting
from broker.cli.progress import Bars
from broker.cli.sources import BadSource, Given, Source, Urls, one_by_one
from broker.client.files import read_content
from broker.wire.items import CHUNK_BYTES, CHUNK_ITEMS, NewItem
from broker.wire.names import OwnedName
from broker.wire.states import Priority

_UPLOADS = 4
_DIGEST_CHARS = 16


@dataclass(frozen=True, slots=True)
class Common:
    """What all items of a push have in common.

    `params`: a parameter's one value, or one for each item in turn. `inputs`: further inputs, by name.
    """

    params: Mapping[str, list[str]] = field(default_factory=dict)
    inputs: Mapping[str, str] = field(default_factory=dict)
    name: str | None = None
    priority: Priority = Priority.NORMAL
    delay_ms: int = 0

    @property
    def is_nothing(self) -> bool:
        is_ordinary = self.priority is Priority.NORMAL and not self.delay_ms
        return is_ordinary and not self.params and not self.inputs and self.name is None

    def item(self, index: int, url: str | None) -> NewItem:
        return NewItem(
            url=url,
            name=self.name,
            params=self._params(index),
            inputs=dict(self.inputs),
            priority=self.priority,
            delay_ms=self.delay_ms,
        )

    def completed(self, index: int, given: NewItem) -> NewItem:
        """Return an item that was written as JSON: what it says itself comes first."""
        return msgspec.structs.replace(
            given,
            params={**self._params(index), **given.params},
            inputs={**self.inputs, **given.inputs},
            priority=given.priority if given.priority is not Priority.NORMAL else self.priority,
            delay_ms=given.delay_ms or self.delay_ms,
        )

    def _params(self, index: int) -> dict[str, str]:
        return {name: column[index % len(column)] for name, column in self.params.items()}


@dataclass(slots=True)
class Chunk:
    """Lines that are accepted as a whole, and of each where it was given and how it was written."""

    lines: list[bytes] = field(default_factory=list)
    """One for each source; that of `Urls` has as many line feeds as they are."""
    sources: list[Source | Urls] = field(default_factory=list)
    first: int = 1
    """Which of all items its first one is."""
    bad: list[BadSource] = field(default_factory=list)
    """Sources on the way to it that are none."""
    count: int = 0
    """How many items it has."""
    size_bytes: int = 0

    @property
    def body(self) -> bytes:
        return b"".join(self.lines)

    @property
    def has_files(self) -> bool:
        return any(isinstance(source, Source) and source.file for source in self.sources)

    def has_no_place_for(self, line: bytes | BadSource) -> bool:
        """Tell whether it is full; of bad ones it holds as many as of others, so that a list of nothing else fits."""
        if isinstance(line, BadSource):
            return len(self.bad) == CHUNK_ITEMS
        is_full = self.count == CHUNK_ITEMS or self.size_bytes + len(line) > CHUNK_BYTES
        return bool(self.lines) and is_full

    def add(self, source: Source | Urls, line: bytes) -> None:
        self.lines.append(line)
        self.sources.append(source)
        self.count += len(source.lines) if isinstance(source, Urls) else 1
        self.size_bytes += len(line)

    def source(self, line: int) -> Source:
        """Return what a line was made of; lines count from 1."""
        index = line - 1
        for source in self.sources:
            count = len(source.lines) if isinstance(source, Urls) else 1
            if index < count:
                return source.source(index) if isinstance(source, Urls) else source
            index -= count
        raise IndexError(f"a chunk of {self.count} items has no line {line}")

    def place(self, line: int) -> str:
        """Return where an item was given; lines count from 1."""
        return self.source(line).place or f"item {self.first + line - 1}"


async def chunks_of(
    acting: Acting, ref: OwnedName, sources: Iterable[Given], common: Common, bars: Bars
) -> AsyncIterator[Chunk]:
    """Yield the chunks one by one; the local files of one are uploaded first."""
    chunk = Chunk()
    for given in sources if common.is_nothing else one_by_one(sources):
        rest: Given | None = given
        while rest is not None:
            source, rest = _beginning(rest, chunk)
            line = _line(source, common, chunk.first - 1 + chunk.count)
            if chunk.has_no_place_for(line):
                yield await _uploaded(acting, ref, chunk, common, bars)
                chunk = Chunk(first=chunk.first + chunk.count)
            if isinstance(line, BadSource):
                chunk.bad.append(line)
            else:
                assert not isinstance(source, BadSource), "what makes a line is none"
                chunk.add(source, line)
    if chunk.lines or chunk.bad:
        yield await _uploaded(acting, ref, chunk, common, bars)


def _beginning(given: Given, chunk: Chunk) -> tuple[Given, Urls | None]:
    """Return what is looked at next, and the rest: no more than the chunk, or else the one after it, has place for."""
    if not isinstance(given, Urls):
        return given, None
    first, rest = given.cut(CHUNK_ITEMS - chunk.count or CHUNK_ITEMS)
    if chunk.size_bytes + len(_urls_line(first)) > CHUNK_BYTES:
        return given.cut(1)
    return first, rest


def _line(source: Given, common: Common, index: int) -> bytes | BadSource:
    """Return the item as a line; of a local file one that is replaced when it was uploaded."""
    if isinstance(source, BadSource):
        return source
    if isinstance(source, Urls):
        return _urls_line(source)
    if source.json is None:
        return msgspec.json.encode(common.item(index, source.url)) + b"\n"
    if common.is_nothing:
        return source.json + b"\n"
    try:
        given = msgspec.json.decode(source.json, type=NewItem)
    except msgspec.DecodeError as error:
        return BadSource(f"{source.place}: it is no item: {error}", source.line)
    return msgspec.json.encode(common.completed(index, given)) + b"\n"


def _urls_line(urls: Urls) -> bytes:
    return b'{"url":"' + b'"}\n{"url":"'.join(urls.lines) + b'"}\n'


async def _uploaded(acting: Acting, ref: OwnedName, chunk: Chunk, common: Common, bars: Bars) -> Chunk:
    if not chunk.has_files:
        return chunk
    files = {source.file for source in chunk.sources if isinstance(source, Source) and source.file}
    waiting = asyncio.Semaphore(_UPLOADS)

    async def upload(path: Path) -> tuple[Path, str]:
        async with waiting:
            return path, await upload_input(acting, ref, path, bars)

    uploads = dict(await asyncio.gather(*(upload(path) for path in files)))
    index = chunk.first - 1
    for place, source in enumerate(chunk.sources):
        if isinstance(source, Urls):
            index += len(source.lines)
            continue
        if source.file is not None:
            chunk.lines[place] = msgspec.json.encode(common.item(index, uploads[source.file])) + b"\n"
        index += 1
    return chunk


async def upload_input(acting: Acting, ref: OwnedName, path: Path, bars: Bars) -> str:
    """Upload an input under a name made of its digest, so that no later push can change it under an item."""
    content = await read_content(path)
    folder = content.digest.removeprefix("sha256:")[:_DIGEST_CHARS]
    full = f"{ref.user}/{ref.name}/inputs/{folder}/{path.name}"
    bar = bars.bar(f"uploading {path.name}", content.size_bytes)
    view = await acting.files.put_file(path, full, content, bar, create_only=True)
    return view.file
