"""The room of one user's files while one of them changes: taken before the bytes come, settled when it is over."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Protocol, TypeVar

from broker.domain.errors import Unavailable
from broker.files.locks import share
from broker.wire.names import UserName

T = TypeVar("T")

Admit = Callable[[int], Awaitable[None]]
"""Called with how many bytes there will be, before they are written; raises when there is no room for them."""


class Counting(Protocol):
    """Where the room is counted; see the store's `FileRoom`."""

    async def reserve_file(self, user: UserName, more_bytes: int) -> None: ...

    async def free_file(self, user: UserName, less_bytes: int) -> None: ...


class Room:
    """What was taken for one change. `kept_bytes`: by how much more the user's files take after it; may be negative."""

    def __init__(self, counting: Counting, user: UserName) -> None:
        self._counting = counting
        self._user = user
        self._taken_bytes = 0
        self.kept_bytes = 0

    async def grow_to(self, size_bytes: int) -> None:
        """Take room until it is that much.

        Raises:
            Rejected: `quota_exceeded`; what was taken before still is.
        """
        if size_bytes > self._taken_bytes:
            await self._counting.reserve_file(self._user, size_bytes - self._taken_bytes)
            self._taken_bytes = size_bytes

    async def settle(self) -> None:
        """Give back what is not kept."""
        spare_bytes = self._taken_bytes - self.kept_bytes
        if spare_bytes:
            # The change itself is done, and a store that is away makes it no less so: the next recount gives it back.
            with suppress(Unavailable):
                await self._counting.free_file(self._user, spare_bytes)


@asynccontextmanager
async def changing(counting: Counting, user: UserName, folder: Path) -> AsyncIterator[Room]:
    """Have room counted for one change below the user's folder, which is not idle meanwhile."""
    descriptor = await asyncio.to_thread(share, folder)
    room = Room(counting, user)
    try:
        yield room
    finally:
        try:
            await asyncio.shield(room.settle())
        finally:
            os.close(descriptor)


async def to_its_end(change: Awaitable[T]) -> T:
    """Await a change that a thread makes; who is cancelled meanwhile is so when it is made, and not before.

    What was taken for it would else be given back, and its object removed, while the thread still makes the record.
    """
    made = asyncio.ensure_future(change)
    try:
        return await asyncio.shield(made)
    except asyncio.CancelledError:
        await asyncio.wait([made])
        if not made.cancelled():
            made.exception()  # it is cancelled, whatever came of the change
        raise
