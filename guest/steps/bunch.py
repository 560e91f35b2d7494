"""Several things done at once, but not all."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

T = TypeVar("T")


async def at_most(count: int, works: Sequence[Callable[[], Awaitable[T]]]) -> list[T]:
    """Do the works, `count` at a time, and return what they gave in their order.

    The first that fails ends the others, and its error is raised as it is.
    """
    gate = asyncio.Semaphore(count)

    async def one(work: Callable[[], Awaitable[T]]) -> T:
        async with gate:
            return await work()

    tasks = [asyncio.ensure_future(one(work)) for work in works]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
