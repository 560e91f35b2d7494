"""From the outbox to RQ: what is due to be told is put into RQ's queue, by one process of a broker at a time.

The outbox rings when something is due, and is looked at every second anyway. What was put into the queue is due again
after a while, so that nothing depends on RQ, its Redis or a worker remembering it: each may die at any point.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol

import structlog

from broker.callbacks.queue import QUEUE_FAILURES, CallbackQueue, Room
from broker.callbacks.work import MOST_S
from broker.domain.errors import Unavailable
from broker.domain.limits import default
from broker.domain.turns import Turns
from broker.store.answers import OwedCallback

TURN_S = 1.0
AGAIN_MS = int(MOST_S * 1_000) + 15_000
"""What was put into the queue and not begun within this is put there again: a worker that has room begins at once."""
_BUSY_S = 0.02
"""While there is more to be done than can be put at once; and between two looks, however often the outbox rings."""
_FULL_S = 0.1
_QUEUE_AWAY_S = 2.0
_SHARE = 4
"""One user may take this part of the room that is left, so that servers which hang leave some to everybody else's."""

log = structlog.get_logger(__name__)


class Outbox(Protocol):
    """What of the store this needs."""

    def owing(self) -> AbstractAsyncContextManager[AsyncIterator[None]]: ...

    async def take_callbacks(self, most: int, most_per_user: int, visible_after_ms: int) -> Sequence[OwedCallback]: ...


class Relay:
    """Puts into `queue` what `outbox` says is due."""

    def __init__(self, outbox: Outbox, queue: CallbackQueue, *, again_ms: int = AGAIN_MS) -> None:
        self._outbox = outbox
        self._queue = queue
        self._again_ms = again_ms
        self._rung = asyncio.Event()

    async def run(self, turns: Turns) -> None:
        """Do so at this process's turns, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._hear())
            await self._keep_putting(turns)

    async def put_due(self) -> bool:
        """Put what is due and has room; tell whether to look again soon. Nothing is lost where it fails half-way.

        Raises:
            Unavailable: the store is away.
            OSError, RedisError: RQ's Redis is.
        """
        room = await asyncio.to_thread(self._queue.room)
        if not room.free:
            await asyncio.sleep(_FULL_S)
            return True
        owed = await self._outbox.take_callbacks(room.free, most_of_one(room), self._again_ms)
        if owed:
            await asyncio.to_thread(self._queue.put, owed)
        return bool(owed)

    async def _hear(self) -> None:
        async with self._outbox.owing() as bells:
            async for _ in bells:
                self._rung.set()

    async def _keep_putting(self, turns: Turns) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            if not turns.is_own(clock(), TURN_S):
                await asyncio.sleep(turns.until_next_s(clock(), TURN_S))
            # Before the look: what rings during it is looked for by the next one.
            self._rung.clear()
            pause_s = await self._pause_after_putting()
            await asyncio.sleep(_BUSY_S)
            try:
                async with asyncio.timeout(pause_s):
                    await self._rung.wait()
            except TimeoutError:
                continue

    async def _pause_after_putting(self) -> float:
        """Put what is due; return for how long a bell is waited for then, in seconds."""
        try:
            return 0.0 if await self.put_due() else TURN_S
        except Unavailable as error:
            log.warning("callbacks_not_relayed", reason=error.detail)
        except QUEUE_FAILURES as error:
            log.warning("callbacks_queue_away", reason=str(error))
        return _QUEUE_AWAY_S


def most_of_one(room: Room) -> int:
    """Return how many callbacks of one user may be on their way at once."""
    return max(1, min(default("callbacks_out"), room.free // _SHARE))
