"""Work that something else cuts short."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def first_of(work: Coroutine[Any, Any, T], *others: Coroutine[Any, Any, T]) -> T:
    """Return the result of whichever ends first; the rest are cancelled, and their clean-up awaited.

    When several ended at once the first named counts. Its own error, and a cancellation of the caller, pass through.
    """
    tasks = [asyncio.ensure_future(one) for one in (work, *others)]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        winner = next(task for task in tasks if task.done())
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    return winner.result()


async def unless_drained(draining: asyncio.Event, work: Coroutine[Any, Any, T]) -> T | None:
    """Return the work's result, or None when `draining` is set first."""

    async def drained() -> None:
        await draining.wait()

    return await first_of(work, drained())
