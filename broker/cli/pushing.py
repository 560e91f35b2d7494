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
from broker.client.errors import ApiError, Unreachable
from broker.wire.names import OwnedName
from broker.wire.problems import Problem, ProblemCode

_SERVER_ERROR = 500


class Pushing:
    """Pushes chunk by chunk, one on its way while the next is made, and counts what was accepted.

    With a file for `skipped` lines the bad ones go there, and the others are pushed; else the first bad one ends it.
    """

    def __init__(self, acting: Acting, ref: OwnedName, key: str, skipped: BinaryIO | None = None) -> None:
        self.tally = Tally(ref)
        self.key = key
        self._acting = acting
        self._ref = ref
        self._skipped = skipped

    async def run(self, chunks: AsyncIterator[Chunk], bar: Callable[[int], None]) -> None:
        """Push all chunks.

        Raises:
            ApiError, Unreachable: as the calls do; `tally` is what was accepted before, the key goes on.
            BadSource: something is no item, and nobody asked to skip it.
        """
        sending: asyncio.Task[None] | None = None
        number = 0
        try:
            async for chunk in chunks:
                if sending is not None:
                    await sending
                self._take_bad(chunk)
                if chunk.lines:
                    sending = asyncio.create_task(self._send(chunk, number, bar))
                    number += 1
                    # So that it is on its way before the next one is made.
                    await asyncio.sleep(0)
            if sending is not None:
                await sending
        finally:
            if sending is not None:
                sending.cancel()
                await asyncio.wait({sending})

    async def _send(self, chunk: Chunk, number: int, bar: Callable[[int], None]) -> None:
        try:
            pushed = await self._acting.researcher.push_lines(
                self._ref, chunk.body, f"{self.key}/{number}", skip_bad=self._skipped is not None
            )
        except ApiError as error:
            raise ApiError(placed(error.problem, chunk), error.reason) from error
        self.tally.add(pushed)
        for refusal in pushed.refused:
            line = int(refusal["line"])
            self._skip(chunk.sources[line - 1].line, f"{chunk.place(line)}: {refusal['reason']}")
        bar(len(chunk.lines))

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
        is_known = line.isascii() and line.isdecimal() and 1 <= int(line) <= len(chunk.lines)
        refusals.append({**refusal, "path": chunk.place(int(line))} if is_known else refusal)
    return msgspec.structs.replace(problem, detail="some items are not valid", refusals=refusals)
