"""Hearing the store's bells beside a test."""

import asyncio

from broker.store import Bell, Store
from broker.wire.names import StreamRef, UserName


class listening:  # noqa: N801 # reads as what it does
    """Add every bell that rings during the block to `heard`: of what is ready, and of the logs that are `followed`."""

    def __init__(self, store: Store, heard: list[Bell], *followed: StreamRef | UserName) -> None:
        self.bells, self._heard, self._followed = store.bells(), heard, followed

    async def __aenter__(self) -> None:
        self._task = asyncio.create_task(self._listen())
        for what in self._followed:
            await self.bells.follow(what)

    async def __aexit__(self, *error: object) -> None:
        self._task.cancel()
        await asyncio.wait({self._task})

    async def _listen(self) -> None:
        async with self.bells.ringing() as bells:
            async for bell in bells:
                self._heard.append(bell)
