"""A push on its way, chunk by chunk."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import BinaryIO

import msgspec

from broker.cli.acting import Acting
from broker.cli.chunks import Chunk
from broker.cli.exits import BadUsage, tell
from broker.cli.sources import BadSource
from broker.cli.tally import Tally, half_way
from broker.client.errors import ApiError, CallError, Unreachable
from broker.wire.items import CHUNK_ITEMS
from broker.wire.names import OwnedName
from broker.wire.problems import Problem, ProblemCode

_SERVER_ERROR = 500
_MOST_CHUNKS = 16
"""So many go in one request: the bar moves often enough, and little has to be looked at again when one is refused."""
_MOST_BYTES = 1_000_000


class Pushing:
    """Pushes chunk after chunk and counts what was accepted. Those made while a request is on its way go together.

    With a file for `skipped` lines the bad ones go there, and the others are pushed; else the first bad one ends it.
    """

    def __init__(self, acting: Acting, ref: OwnedName, key: str, skipped: BinaryIO | None = None) -> None:
        self.tally = Tally(ref)
        self.key = key
        self._acting = acting
        self._ref = ref
        self._skipped = skipped
        self._number = 0
        self._waiting: list[Chunk] = []
        self._sending: asyncio.Task[None] | None = None

    async def run(self, chunks: AsyncIterator[Chunk], bar: Callable[[int], None]) -> None:
        """Push all chunks.

        Raises:
            ApiError, Unreachable: as the calls do; `tally` is what was accepted before, the key goes on.
            BadSource: something is no item, and nobody asked to skip it.
        """
        try:
            async for chunk in chunks:
                await self._add(chunk, bar)
                # The request on its way goes on before the next chunk is made.
                await asyncio.sleep(0)
            await self._send_waiting(bar)
            await self._answered()
        except Exception:
            # Wrong is what was to be made next: what was made before is pushed, and counted.
            await self._send_waiting(bar)
            await self._answered()
            raise
        finally:
            if self._sending is not None:
                self._sending.cancel()
                await asyncio.wait({self._sending})

    async def _add(self, chunk: Chunk, bar: Callable[[int], None]) -> None:
        if self._waiting and not self._goes_along(chunk):
            await self._send_waiting(bar)
        if chunk.bad:
            await self._send_waiting(bar)
            await self._answered()
            self._take_bad(chunk)
        if chunk.lines:
            self._waiting.append(chunk)
            if self._sending is None or self._sending.done():
                await self._send_waiting(bar)

    def _goes_along(self, chunk: Chunk) -> bool:
        """Tell whether a chunk goes into one request with those that wait: the broker then cuts where we do.

        One by one go chunks of which the broker may leave lines out, and those whose files took their time.
        """
        return (
            self._skipped is None
            and not chunk.has_files
            and self._waiting[-1].count == CHUNK_ITEMS
            and len(self._waiting) < _MOST_CHUNKS
            and sum(each.size_bytes for each in self._waiting) + chunk.size_bytes <= _MOST_BYTES
        )

    async def _send_waiting(self, bar: Callable[[int], None]) -> None:
        await self._answered()
        if self._waiting:
            self._sending = asyncio.create_task(self._send(self._waiting, self._number, bar))
            self._number += len(self._waiting)
            self._waiting = []

    async def _answered(self) -> None:
        if self._sending is not None:
            await self._sending
            self._sending = None

    async def _send(self, chunks: list[Chunk], number: int, bar: Callable[[int], None]) -> None:
        if len(chunks) > 1 and await self._send_together(chunks, number, bar):
            return
        for at, chunk in enumerate(chunks, number):
            await self._send_one(chunk, at, bar)

    async def _send_together(self, chunks: list[Chunk], number: int, bar: Callable[[int], None]) -> bool:
        """Push chunks in one request, once; False when that failed: one by one they tell which, and how far it came."""
        body = b"".join(chunk.body for chunk in chunks)
        try:
            pushed = await self._acting.researcher.push_lines(self._ref, body, self.key, part=number)
        except CallError:
            return False
        self.tally.add(pushed)
        bar(sum(chunk.count for chunk in chunks))
        return True

    async def _send_one(self, chunk: Chunk, number: int, bar: Callable[[int], None]) -> None:
        try:
            pushed = await self._acting.researcher.push_lines(
                self._ref, chunk.body, f"{self.key}/{number}", skip_bad=self._skipped is not None
            )
        except ApiError as error:
            raise ApiError(placed(error.problem, chunk), error.reason) from error
        self.tally.add(pushed)
        for refusal in pushed.refused:
            line = int(refusal["line"])
            self._skip(chunk.source(line).line, f"{chunk.place(line)}: {refusal['reason']}")
        bar(chunk.count)

    def _take_bad(self, chunk: Chunk) -> None:
        for bad in chunk.bad:
            if self._skipped is None:
                raise bad
            self._skip(bad.line, str(bad))

    def _skip(self, line: bytes, sentence: str) -> None:
        assert self._skipped is not None, "bad lines are skipped only where somebody asked for that"
        self._skipped.write(line + b"\n")
        self.tally.add_bad(sentence)


def told(error: BaseException, pushing: Pushing, total: int | None) -> BaseException:
    """Return the error with how far the push came, and how to go on; one that is interrupted says it at once."""
    so_far = half_way(pushing.tally, total, pushing.key)
    match error:
        case ApiError() if not pushing.tally.accepted and error.status < _SERVER_ERROR:
            pass
        case ApiError() | Unreachable():
            error.add_note(so_far)
        case BadSource():
            return BadUsage(f"{error}; {so_far}" if pushing.tally.accepted else str(error))
        case _:
            tell(so_far)
    return error


def placed(problem: Problem, chunk: Chunk) -> Problem:
    """Name each fault by where its item was given; the broker counts the lines of a chunk."""
    if problem.code is not ProblemCode.BAD_ITEMS or not problem.refusals:
        return problem
    refusals = []
    for refusal in problem.refusals:
        line = refusal.get("line", "")
        is_known = line.isascii() and line.isdecimal() and 1 <= int(line) <= chunk.count
        refusals.append({**refusal, "path": chunk.place(int(line))} if is_known else refusal)
    return msgspec.structs.replace(problem, detail="some items are not valid", refusals=refusals)
