"""Hearing the store's bells beside a test."""

import asyncio

from broker.store import Bell, Store


class listening:  # noqa: N801 # reads as what it does
    """Add every bell that rings during the block to `heard`."""

    def __init__(self, store: Store, heard: list[Bell]) -> None:
        self._store, self._heard = store, heard

    async def __aenter__(self) -> None:
        self._task = asyncio.create_task(self._listen())

    async def __aexit__(self, *error: object) -> None:
        self._task.cancel()
        await asyncio.wait({self._task})

    async def _listen(self) -> None:
        async with self._store.bells() as bells:
            async for bell in bells:
                self._heard.append(bell)
