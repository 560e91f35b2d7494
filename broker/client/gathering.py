"""Several things at once, of which the first that fails ends all: with its own error, as if it had been alone."""

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

T = TypeVar("T")


async def gathered(works: Sequence[Coroutine[Any, Any, T]], most: int | None = None) -> list[T]:
    """Return what each returned, in their order; at most so many run at once, all of them where it is None."""
    places = asyncio.Semaphore(most or max(1, len(works)))

    async def placed(work: Coroutine[Any, Any, T]) -> T:
        async with places:
            return await work

    tasks = [asyncio.ensure_future(placed(work)) for work in works]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for work in works:
            work.close()  # one that never had a place was never awaited
