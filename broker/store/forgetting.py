"""Settled items are forgotten when their stream's `keep` is over."""

from collections.abc import Awaitable, Callable
from itertools import groupby
from typing import NamedTuple

from broker.store import arguments
from broker.store.reading import Reading
from broker.store.records import item_ref
from broker.store.scripts import Word
from broker.wire.names import DispatchId, ItemRef

MAX_FORGOTTEN = 100
"""One call forgets at most so many; the next one goes on."""
MAX_VMS = 1_001
"""More than one item can have had."""


class Forgotten(NamedTuple):
    """An item that is about to be forgotten, and every vm it had."""

    item: ItemRef
    dispatches: tuple[DispatchId, ...]


class Forgetting(Reading):
    async def _forget_past(self, now_ms: int, clear: Callable[[Forgotten], Awaitable[None]]) -> int:
        forgotten = 0
        past = sorted(await self._past(self._keys.keep, now_ms, MAX_FORGOTTEN))
        for stream, refs in groupby(past, lambda ref: ref.stream):
            numbers = []
            for ref in refs:
                await clear(Forgotten(ref, await self._dispatches(ref)))
                numbers.append(str(ref.number))
            reply = await self._server.act(
                arguments.Forget(user=stream.user, job=stream.name, rest=tuple(numbers)), self._keys.of_stream(stream)
            )
            forgotten += int(reply.values[0]) if reply.word == Word.DONE else 0
        return forgotten

    async def _dispatches(self, ref: ItemRef) -> tuple[DispatchId, ...]:
        """Return the dispatches that an item had, the last one first."""
        found: list[DispatchId] = []
        dispatch = await self._server.command("HGET", self._keys.item(ref), "last")
        while dispatch is not None and len(found) < MAX_VMS:
            found.append(DispatchId(dispatch))
            dispatch = await self._server.command("HGET", self._keys.vm(found[-1]), "before")
        return tuple(found)

    async def _past(self, key: str, now_ms: int, limit: int) -> list[ItemRef]:
        names = await self._server.command("ZRANGE", key, "-inf", now_ms, "BYSCORE", "LIMIT", 0, limit)
        return [item_ref(name) for name in names]
