"""Bells: the store rings once for what is ready or was logged; here it is handed to whoever waits in this process.

A bell carries no item and may be lost, so nobody relies on it alone: everything that waits also looks by itself every
`SLOW_POLL_S`.
"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from broker.domain.errors import Unavailable
from broker.domain.limits import default
from broker.store import Ready, Store
from broker.wire.names import StreamRef, UserName
from broker.wire.problems import ProblemCode

SLOW_POLL_S = 5.0


class Bells:
    """Followers of event logs, woken by stream or by its user, and bounded in number."""

    def __init__(self, store: Store) -> None:
        self._heard = store.bells()
        self._followers: dict[StreamRef | UserName, set[asyncio.Event]] = defaultdict(set)
        self._counts: Counter[str] = Counter()
        self.is_closed = False

    async def run(self, ring_ready: Callable[[StreamRef], None]) -> None:
        """Hand on every bell until cancelled. The store's listener mends its own connection."""
        async with self._heard.ringing() as bells:
            async for bell in bells:
                if isinstance(bell, Ready):
                    ring_ready(bell.stream)
                else:
                    self._wake(self._followers.get(bell.of, set()))

    @asynccontextmanager
    async def following(self, what: StreamRef | UserName, subject: str) -> AsyncIterator[asyncio.Event]:
        """Give an event that is set whenever the stream's log or the user's feed grew; the follower clears it.

        Raises:
            Unavailable: TOO_MANY_FOLLOWERS: too many follow already, or too many of the token's subject do.
        """
        is_own = self._counts[subject] >= default("token_followers")
        if is_own or self._counts.total() >= default("followers"):
            whose = f"requests of {subject}" if is_own else "requests"
            raise Unavailable(
                ProblemCode.TOO_MANY_FOLLOWERS, f"too many {whose} follow events here: end some", retry_after_s=10
            )
        rung = asyncio.Event()
        self._followers[what].add(rung)
        self._counts[subject] += 1
        try:
            await self._heard.follow(what)
            yield rung
        finally:
            self._counts -= Counter([subject])
            self._followers[what].discard(rung)
            if not self._followers[what]:
                del self._followers[what]
                await self._heard.leave(what)

    def close(self) -> None:
        """Let every follower end: the broker stops."""
        self.is_closed = True
        for followers in self._followers.values():
            self._wake(followers)

    @staticmethod
    def _wake(followers: set[asyncio.Event]) -> None:
        for rung in followers:
            rung.set()
