"""Writing a new file: hashed and written at once, past the page cache, while the next bytes come.

Of a few blocks one is filled by the loop while two threads hash and write those that are full, each at its own pace:
none of the three waits for another as long as there is a block for it, and these few are all that is held. A thread
that finds no block goes to others: a slow sender holds none, and never touches the memory of more than two blocks.
Whole blocks are written past the page cache: what is to be durable before it is answered would be copied there only to
be waited for at the end, and one upload of many gigabytes would push out of it what others read. The rest, which is no
whole block, and so all of a small file, goes through it. ADR 0024 says what was measured.
"""

import asyncio
import hashlib
import mmap
from collections import deque
from collections.abc import Awaitable, Callable
from itertools import chain

from broker.files.direct_file import DirectFile
from broker.files.source import Source
from broker.files.stages import BLOCK_BYTES, Stage

BLOCKS = 8
_FEW_BLOCKS = 2
_ALONE = 8
"""As long as there are no more files that are written, each has all of its blocks. More fill each other's gaps."""


class Writing:
    """What comes from a source, put into a new file; `close` it whatever comes.

    `check` is told how many bytes there will be, before they are written; what it raises ends this.
    """

    _open = 0

    def __init__(self, file: DirectFile, check: Callable[[int], Awaitable[None]]) -> None:
        self.size_bytes = 0
        self._file = file
        self._check = check
        self._hasher = hashlib.sha256()
        self._places = range(BLOCKS if Writing._open < _ALONE else _FEW_BLOCKS)
        # Anonymous memory begins at a page, as what is written past the page cache must; what is not used takes none.
        memory = memoryview(mmap.mmap(-1, len(self._places) * BLOCK_BYTES))
        self._changed = asyncio.Event()
        self._stages = tuple(Stage(memory, act, self._changed) for act in (self._hasher.update, file.write_block))
        self._memory = memory
        self._place = 0
        self._filled_bytes = 0
        self._under_way: deque[int] = deque()
        self._settled = 0
        Writing._open += 1

    async def take(self, source: Source) -> None:
        """Take all that comes."""
        while count := await source.fill(self._block[self._filled_bytes :]):
            self._filled_bytes += count
            if self._filled_bytes == BLOCK_BYTES:
                await self._pass_on()

    async def finish(self) -> str:
        """Write the rest and make the file durable; return its SHA-256 in hexadecimal digits."""
        await self._until_left(0)
        if self._filled_bytes:
            await self._check(self.size_bytes + self._filled_bytes)
        await asyncio.to_thread(self._finish, self._block[: self._filled_bytes])
        self.size_bytes += self._filled_bytes
        return self._hasher.hexdigest()

    async def close(self) -> None:
        """Let go of the file, when nobody writes to it any more."""
        Writing._open -= 1
        for stage in self._stages:
            stage.stop()
        # Now, and not when Python finds a cycle of what was raised and who raised it.
        self._memory = memoryview(b"")
        await asyncio.shield(asyncio.to_thread(self._file.close))

    @property
    def _block(self) -> memoryview:
        return self._memory[self._place * BLOCK_BYTES :][:BLOCK_BYTES]

    async def _pass_on(self) -> None:
        await self._check(self.size_bytes + BLOCK_BYTES)
        self.size_bytes += BLOCK_BYTES
        self._under_way.append(self._place)
        for stage in self._stages:
            stage.take(self._place)
        await self._until_left(len(self._places) - 1)
        self._place, self._filled_bytes = self._next_place(), 0

    def _next_place(self) -> int:
        """Choose the next block in a row while there is a jam, to have many done at once; else the first that is free.

        Where there is none, the memory of the others is never touched.
        """
        first = self._place + 1 if len(self._under_way) > 1 else 0
        return next(place for place in chain(self._places[first:], self._places) if place not in self._under_way)

    async def _until_left(self, most: int) -> None:
        """Wait until so many blocks at most are still to be hashed or written."""
        while True:
            self._changed.clear()
            passed = min(stage.passed for stage in self._stages)
            for stage in self._stages:
                stage.check()
            for _ in range(passed - self._settled):
                self._under_way.popleft()
                self._settled += 1
            if len(self._under_way) <= most:
                return
            await self._changed.wait()

    def _finish(self, rest: memoryview) -> None:
        self._hasher.update(rest)
        self._file.finish(rest)
