"""Wait for a condition, with a deadline: never for a time."""

import asyncio
import time
from collections.abc import Awaitable, Callable

_POLL_S = 0.02


def wait_until(condition: Callable[[], bool], what: str, *, timeout_s: float = 10, poll_s: float = _POLL_S) -> None:
    """Return when `condition` holds; fail naming `what` when it does not within the time."""
    ends = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < ends, f"{what}: not within {timeout_s} s"
        time.sleep(poll_s)


async def until(
    condition: Callable[[], Awaitable[bool]], what: str, *, timeout_s: float = 10, poll_s: float = _POLL_S
) -> None:
    """Return when the awaited `condition` holds; fail naming `what` when it does not within the time."""
    ends = time.monotonic() + timeout_s
    while not await condition():
        assert time.monotonic() < ends, f"{what}: not within {timeout_s} s"
        await asyncio.sleep(poll_s)
