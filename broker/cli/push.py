"""`broker push`."""

import asyncio
import re
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from broker.cli import showing
from broker.cli.acting import Acting, act
from broker.cli.exits import BadUsage, tell
from broker.cli.progress import Bars, progress
from broker.cli.sources import Source, listed, named
from broker.client.errors import ApiError, Unreachable
from broker.client.files import read_content
from broker.wire.items import NewItem, Pushed
from broker.wire.names import OwnedName
from broker.wire.problems import Problem, ProblemCode

_UPLOADS = 4
_MAX_ITEMS = 1_000_000
_RANGE = re.compile(r"\{(-?[0-9]{1,15})\.\.(-?[0-9]{1,15})\}")
_DIGEST_CHARS = 16
_SERVER_ERROR = 500


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
    """Push items into a stream. Each is one vm, one run of the stream's program, one result.

    Many items go up in chunks, each accepted as a whole. A push that stops half-way tells the key to go on with.
    """
    sources = [*map(named, inputs or []), *(listed(from_file) if from_file else ())]
    act(lambda acting: _push(acting, stream, sources, count, param or [], name, key))


async def _push(
    acting: Acting,
    stream: str,
    sources: list[Source],
    count: int | None,
    params: list[str],
    name: str | None,
    key: str | None,
) -> None:

    ref = acting.stream(stream)
    values = params_of(params, len(sources) or count)
    if not sources:
        if count is None and not params:
            raise BadUsage("there is nothing to push: name files or URLs, or give --from, --count or --param")
        sources = [Source()] * (count or max((len(column) for column in values.values()), default=1))
    elif count is not None:
        raise BadUsage("--count is for items without an input: leave it out, or the files and URLs")
    if name is not None and len(sources) != 1:
        raise BadUsage("--name is for one item; in a --from file each line may be JSON with a name")
    await acting.researcher.stream(ref)  # before anything is uploaded for it
    items = await items_of(acting, ref, sources, values, name)
    places = [source.place or f"item {number}" for number, source in enumerate(sources, 1)]
    pushed = await push_all(acting, ref, items, places, key or uuid.uuid4().hex)
    showing.stdout().print(_sentence(pushed, is_asked_again=key is not None))


async def push_all(acting: Acting, ref: OwnedName, items: list[NewItem], places: list[str], key: str) -> list[Pushed]:
    """Push chunk by chunk; whatever stops it half-way is told together with how to go on."""
    pushed: list[Pushed] = []
    try:
        async for chunk in acting.researcher.push(ref, items, key):
            pushed.append(chunk)  # noqa: PERF401 # a comprehension would lose what came before an error
    except ApiError as error:
        refusal = ApiError(_placed(error.problem, places[_accepted(pushed) :]), error.reason)
        if pushed or error.status >= _SERVER_ERROR:
            refusal.add_note(_half_way(pushed, len(items), key))
        raise refusal from error
    except Unreachable as error:
        error.add_note(_half_way(pushed, len(items), key))
        raise
    except asyncio.CancelledError:
        tell(_half_way(pushed, len(items), key))
        raise
    return pushed


def _accepted(pushed: list[Pushed]) -> int:
    return sum(chunk.accepted for chunk in pushed)


def _half_way(pushed: list[Pushed], total: int, key: str) -> str:
    """Say what was accepted for certain; the chunk on its way may have been too, which the key takes care of."""
    if not pushed:
        return f"it is not known whether items were pushed; push again with --key {key}, which adds none twice"
    range_ = f"{pushed[0].stream}/{pushed[0].first} to {pushed[-1].stream}/{pushed[-1].last}"
    return f"{_accepted(pushed)} of {total} items were pushed ({range_}); push again with --key {key} to go on"


def _placed(problem: Problem, places: Sequence[str]) -> Problem:
    """Name each fault by where its item was given; the broker counts the lines of a chunk."""
    if problem.code is not ProblemCode.BAD_ITEMS or not problem.refusals:
        return problem
    refusals = []
    for refusal in problem.refusals:
        line = refusal.get("line", "")
        is_known = line.isascii() and line.isdecimal() and 1 <= int(line) <= len(places)
        refusals.append({**refusal, "path": places[int(line) - 1]} if is_known else refusal)
    return msgspec.structs.replace(problem, detail="some items are not valid", refusals=refusals)


def _sentence(pushed: list[Pushed], *, is_asked_again: bool) -> str:
    """Say what was pushed; that some was there already is of interest to whoever chose the key."""
    first, last, stream = pushed[0].first, pushed[-1].last, pushed[0].stream
    total, before = _accepted(pushed), _accepted([chunk for chunk in pushed if chunk.repeated])
    what = f"{stream}/{first}" if total == 1 else f"{stream}/{first} to {stream}/{last}"
    disk = "" if pushed[0].durability == "fsync" else f" (durability: {pushed[0].durability})"
    items = "1 item" if total == 1 else f"{total} items"
    if not is_asked_again or not before:
        return f"{items} pushed: {what}{disk}"
    if before == total:
        return f"nothing was added, this key has pushed before: {what}{disk}"
    return f"{total - before} of {items} pushed, the others were before: {what}{disk}"


async def items_of(
    acting: Acting, ref: OwnedName, sources: list[Source], values: dict[str, list[str]], name: str | None
) -> list[NewItem]:
    """Return the items of a push; local files are uploaded first."""
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


def _item(source: Source, uploads: dict[Path, str], params: dict[str, str], name: str | None) -> NewItem:

    if source.json is not None:
        try:
            given = msgspec.json.decode(source.json, type=NewItem)
        except msgspec.DecodeError as error:
            raise BadUsage(f"{source.place}: {source.json[:80]!r} is no item: {error}") from error
        return msgspec.structs.replace(given, params={**params, **given.params})
    if source.file is not None:
        return NewItem(url=uploads[source.file], name=name or source.file.name, params=params)
    return NewItem(url=source.url, name=name, params=params)


def params_of(params: list[str], count: int | None) -> dict[str, list[str]]:
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
