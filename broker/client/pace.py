"""The least pace of a transfer: one that moves less is cut, and tried again where that may help."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import NamedTuple

from broker.client.errors import Unreachable


class Pace(NamedTuple):
    """In every window so many bytes have to move: by default 1 KiB/s over a minute."""

    window_s: float = 60.0
    least_bytes: int = 61_440


class TooSlow(Unreachable):
    """A transfer moved less than the least pace wants; another try may find a better way."""


@asynccontextmanager
async def kept(pace: Pace, moved: Callable[[], int | None]) -> AsyncIterator[None]:
    """Cut what is done inside when it moves too little.

    Args:
        pace: What is asked for.
        moved: The bytes that moved so far; None when none are due, as while an answer is waited for.

    Raises:
        TooSlow: it was cut.
    """
    limit = asyncio.timeout(None)
    try:
        async with limit:
            watching = asyncio.create_task(_watch(limit, pace, moved))
            try:
                yield
            finally:
                watching.cancel()
    except TimeoutError:
        if not limit.expired():
            raise
        sentence = f"less than {pace.least_bytes} bytes moved in {pace.window_s:g} s, which is too slow"
        raise TooSlow(sentence) from None


async def _watch(limit: asyncio.Timeout, pace: Pace, moved: Callable[[], int | None]) -> None:
    before_bytes = moved()
    while True:
        await asyncio.sleep(pace.window_s)
        now_bytes = moved()
        if now_bytes is not None and now_bytes - (before_bytes or 0) < pace.least_bytes:
            limit.reschedule(asyncio.get_running_loop().time())
            return
        before_bytes = now_bytes
