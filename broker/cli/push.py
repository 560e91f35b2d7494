"""`broker push`."""

import asyncio
import itertools
import re
import uuid
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, BinaryIO

import typer

from broker.cli import showing
from broker.cli.acting import Acting, act
from broker.cli.amounts import parse_duration_ms
from broker.cli.chunks import Common, chunks_of, upload_input
from broker.cli.exits import BadUsage, tell
from broker.cli.progress import Bars, progress
from broker.cli.pushing import Pushing, told
from broker.cli.sources import BadSource, Given, Source, count_listed, listed, named, one_by_one
from broker.cli.tally import TOLD, counted, sentence_of
from broker.client.errors import ApiError, Unreachable
from broker.wire.names import OwnedName
from broker.wire.states import Priority

_MAX_ITEMS = 1_000_000
_RANGE = re.compile(r"\{(-?[0-9]{1,15})\.\.(-?[0-9]{1,15})\}")


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
    further: Annotated[
        list[str] | None,
        typer.Option("--input", metavar="NAME=FILE|URL", help="A further input of every item, by a name of its own."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the item, when there is one.")] = None,
    priority: Annotated[
        Priority, typer.Option(help="All ready items of a class go before any of the next one.")
    ] = Priority.NORMAL,
    delay: Annotated[
        str | None, typer.Option(metavar="DURATION", help="They become ready so much later: 90s, 2h, 7d.")
    ] = None,
    skip_bad: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Push the other lines, and write the bad ones to FILE.")
    ] = None,
    key: Annotated[
        str | None, typer.Option(metavar="KEY", help="Pushed again with the same key, nothing is added twice.")
    ] = None,
) -> None:
    """Push items into a stream. Each is one vm, one run of the stream's program, one result.

    Any number of items goes up in chunks, each accepted as a whole. A push that stops half-way tells the key to go on
    with. An item whose name is in the stream already is left out.
    """

    async def work(acting: Acting) -> None:
        sources = Sources.of(inputs or [], from_file, count, param or [])
        if name is not None and sources.total != 1:
            raise BadUsage("--name is for one item; in a --from file each line may be JSON with a name")
        delay_ms = parse_duration_ms(delay, "--delay") if delay else 0
        common = Common(sources.params, {}, name, priority, delay_ms)
        await _push(acting, stream, sources, common, further_inputs(further or []), skip_bad, key)

    act(work)


@dataclass(frozen=True, slots=True)
class Sources:
    """What is to be pushed, read as it is needed, and how much of it there is where that is known."""

    of_inputs: tuple[Source | BadSource, ...]
    from_file: str | None
    empty: int
    params: dict[str, list[str]]

    @classmethod
    def of(cls, inputs: list[str], from_file: str | None, count: int | None, params: list[str]) -> "Sources":
        """Read what the command line says.

        Raises:
            BadUsage, BadSource: it makes no sense; show the text.
        """
        given: tuple[Source | BadSource, ...] = tuple(map(named, inputs))
        if from_file == "-" and any(map(_RANGE.search, params)):
            # A range has as many values as there are items, and stdin can be read only once.
            given, from_file = (*given, *one_by_one(listed("-"))), None
        if (given or from_file) and count is not None:
            raise BadUsage("--count is for items without an input: leave it out, or the files and URLs")
        if not given and not from_file and count is None and not params:
            raise BadUsage("there is nothing to push: name files or URLs, or give --from, --count or --param")
        known = count
        if params and (given or from_file):
            known = len(given) + (count_listed(from_file) or 0 if from_file else 0)
        values = params_of(params, known)
        empty = 0 if given or from_file else count or max((len(column) for column in values.values()), default=1)
        return cls(given, from_file, empty, values)

    @property
    def total(self) -> int | None:
        """How many items there are; None where only reading all of it tells."""
        from_list = count_listed(self.from_file) if self.from_file else 0
        return None if from_list is None else len(self.of_inputs) + from_list + self.empty

    def __iter__(self) -> Iterator[Given]:
        from_list: Iterable[Given] = listed(self.from_file) if self.from_file else ()
        return itertools.chain(self.of_inputs, from_list, itertools.repeat(Source(), self.empty))


async def _push(
    acting: Acting,
    stream: str,
    sources: Sources,
    common: Common,
    further: dict[str, Source],
    skip_bad: Path | None,
    key: str | None,
) -> None:
    ref = acting.stream(stream)
    await acting.researcher.stream(ref)  # before anything is uploaded for it
    with progress(of_items=True) as bars, _opened(skip_bad) as skipped:
        pushing = Pushing(acting, ref, key or uuid.uuid4().hex, skipped)
        common = replace(common, inputs=await _uploaded(acting, ref, further, bars))
        bar = bars.bar(f"pushing to {ref}", sources.total if bars.is_shown else None)
        try:
            await pushing.run(chunks_of(acting, ref, sources, common, bars), bar)
        except (ApiError, Unreachable, BadSource, asyncio.CancelledError) as error:
            raise told(error, pushing, sources.total) from error
    tally = pushing.tally
    if tally.bad_count:
        more = [f"… and {tally.bad_count - TOLD} more"] if tally.bad_count > TOLD else []
        tell(f"{counted(tally.bad_count, 'line')} skipped, written to {skip_bad}", *tally.bad, *more)
    showing.stdout().print(sentence_of(tally, is_asked_again=key is not None))


async def _uploaded(acting: Acting, ref: OwnedName, further: dict[str, Source], bars: Bars) -> dict[str, str]:
    """Return where each further input is; local files are uploaded."""
    urls = {name: source.url for name, source in further.items() if source.url is not None}
    files = {name: source.file for name, source in further.items() if source.file is not None}
    return urls | {name: await upload_input(acting, ref, file, bars) for name, file in files.items()}


def further_inputs(words: list[str]) -> dict[str, Source]:
    """Read each NAME=FILE|URL.

    Raises:
        BadUsage, BadSource: it is none; show the text.
    """
    found: dict[str, Source] = {}
    for text in words:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise BadUsage(f"--input {text}: write NAME=FILE or NAME=URL")
        if name in found:
            raise BadUsage(f"--input {name} is given twice: an item has one input of a name")
        found[name] = named(value)
    return found


def _opened(file: Path | None) -> AbstractContextManager[BinaryIO | None]:
    return nullcontext() if file is None else file.open("wb")


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
