"""Where bytes come from: by chunks as they come, or into memory that is given."""

from collections.abc import AsyncIterator
from typing import Protocol


class Source(Protocol):
    """Bytes that come once: a reader takes either the chunks or fills its own memory."""

    def chunks(self) -> AsyncIterator[bytes]:
        """Yield them as they come, in chunks of any size."""

    async def fill(self, view: memoryview) -> int:
        """Fill a view that is not empty; return how many bytes there were, fewer only at the end, where it is 0."""


class Chunks:
    """A source whose bytes come by chunks."""

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks
        self._left = memoryview(b"")

    def chunks(self) -> AsyncIterator[bytes]:
        return self._chunks

    async def fill(self, view: memoryview) -> int:
        filled = 0
        while filled < len(view):
            if not self._left:
                chunk = await anext(self._chunks, None)
                if chunk is None:
                    break
                self._left = memoryview(chunk)
            count = min(len(self._left), len(view) - filled)
            view[filled : filled + count] = self._left[:count]
            self._left = self._left[count:]
            filled += count
        return filled
