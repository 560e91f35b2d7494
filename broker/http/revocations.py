"""What was revoked, as this process knows it: at most a few seconds old, however it goes.

A token that proves itself needs no look at the store, so each process keeps the short list of those that were revoked
before their end. It asks for a number that grows with each revocation, and for the list when it grew. While the store
does not answer nobody knows what was revoked, and no token is taken.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import structlog

from broker.auth.tokens import Principal
from broker.domain.errors import Unavailable

EVERY_S = 2.0
KNOWN_FOR_S = 4.0
"""A request that comes later than this after the last look waits for the next one."""

log = structlog.get_logger(__name__)


class _Store(Protocol):
    async def revocations(self) -> int: ...
    async def revoked(self) -> set[str]: ...


class Revocations:
    """The revoked of one process; `run` beside it keeps it fresh."""

    def __init__(self, store: _Store) -> None:
        self._store = store
        self._number = -1
        self._revoked: set[str] = set()
        self._known_s: float | None = None
        self._looking = asyncio.Lock()
        self._bells: dict[asyncio.Event, Principal] = {}

    def includes(self, principal: Principal) -> bool:
        """Tell whether a token was revoked, or one that it was made with."""
        return bool(self._revoked) and not self._revoked.isdisjoint(principal.ids)

    async def make_sure(self) -> None:
        """Return when what was revoked until a few seconds ago is known.

        Raises:
            Unavailable: the store does not tell.
        """
        if not self._is_fresh():
            async with self._looking:
                if not self._is_fresh():
                    await self._look()

    async def look(self) -> None:
        """Learn what is revoked now.

        Raises:
            Unavailable: the store does not tell.
        """
        async with self._looking:
            await self._look()

    @contextmanager
    def ringing(self, principal: Principal, bell: asyncio.Event) -> Iterator[None]:
        """Set `bell` when the token is revoked during the block: for an answer that goes on and on."""
        self._bells[bell] = principal
        try:
            yield
        finally:
            del self._bells[bell]

    async def run(self) -> None:
        """Look every two seconds, until cancelled."""
        while True:
            try:
                await self.look()
            except Unavailable as error:
                log.warning("revocations_not_known", reason=error.detail)
            await asyncio.sleep(EVERY_S)

    def _is_fresh(self) -> bool:
        return self._known_s is not None and asyncio.get_running_loop().time() - self._known_s < KNOWN_FOR_S

    async def _look(self) -> None:
        asked_s = asyncio.get_running_loop().time()
        number = await self._store.revocations()
        if number != self._number:
            self._revoked = await self._store.revoked()
            self._number = number
            for bell, principal in self._bells.items():
                if self.includes(principal):
                    bell.set()
        self._known_s = asked_s
