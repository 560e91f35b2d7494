"""Bells: the store rings once for what is ready or was logged; here it is handed to whoever waits in this process.

A bell carries no item and may be lost, so nobody relies on it alone: everything that waits also looks by itself every
`SLOW_POLL_S`.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from broker.domain.errors import Unavailable
from broker.store import Store
from broker.wire.names import StreamRef
from broker.wire.problems import ProblemCode

SLOW_POLL_S = 5.0
MAX_FOLLOWERS = 1_000


class Bells:
    """Followers of event logs, woken by stream."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._followers: dict[StreamRef, set[asyncio.Event]] = defaultdict(set)
        self._count = 0
        self.is_closed = False

    async def run(self, ring_ready: Callable[[], None]) -> None:
        """Hand on every bell until cancelled. The store's listener mends its own connection."""
        async with self._store.bells() as bells:
            async for bell in bells:
                if bell.kind == "ready":
                    ring_ready()
                else:
                    self._wake(self._followers.get(bell.stream, set()))

    @contextmanager
    def following(self, stream: StreamRef) -> Iterator[asyncio.Event]:
        """Give an event that is set whenever the stream's log grew; the follower clears it.

        Raises:
            Unavailable: too many follow already.
        """
        if self._count >= MAX_FOLLOWERS:
            raise Unavailable(ProblemCode.STORE_UNAVAILABLE, "too many follow events here: try again", retry_after_s=10)
        rung = asyncio.Event()
        self._followers[stream].add(rung)
        self._count += 1
        try:
            yield rung
        finally:
            self._count -= 1
            self._followers[stream].discard(rung)
            if not self._followers[stream]:
                del self._followers[stream]

    def close(self) -> None:
        """Let every follower end: the broker stops."""
        self.is_closed = True
        for followers in self._followers.values():
            self._wake(followers)

    @staticmethod
    def _wake(followers: set[asyncio.Event]) -> None:
        for rung in followers:
            rung.set()
