"""Work that a drain cuts short."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def unless_drained(draining: asyncio.Event, work: Coroutine[Any, Any, T]) -> T | None:
    """Return the work's result; when `draining` is set first, cancel the work, await its clean-up and return None.

    The work's own errors, and a cancellation of the caller, pass through.
    """
    task = asyncio.ensure_future(work)
    asked_to_stop = asyncio.ensure_future(draining.wait())
    try:
        await asyncio.wait({task, asked_to_stop}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        asked_to_stop.cancel()
        task.cancel()
        await asyncio.wait({task})
    return None if task.cancelled() else task.result()
