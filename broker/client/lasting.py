"""Following what a broker tells for as long as it takes, over as many connections as that takes."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import TypeVar

from broker.client.errors import CallError, may_help_to_repeat
from broker.client.session import Patience

T = TypeVar("T")

SILENCE_S = 45.0
"""Three heartbeats: a connection silent for longer is dead."""
_PATIENCE = Patience(attempts=1_000, total_s=120.0, max_delay_s=5.0)


async def lasting(connect: Callable[[], AsyncIterator[T]], *, is_endless: bool = True) -> AsyncIterator[T]:
    """Yield what each connection tells. `connect` goes on where the one before ended, which is its own to know.

    Raises:
        ApiError: the broker refuses.
        Unreachable: it stayed away for two minutes.
    """
    lost_at_s: float | None = None
    attempt = 0
    while True:
        try:
            async for told in connect():
                attempt, lost_at_s = 0, None
                yield told
            if not is_endless:
                return
        except CallError as error:
            lost_at_s = lost_at_s or time.monotonic()
            is_too_long = time.monotonic() - lost_at_s > _PATIENCE.total_s
            if not may_help_to_repeat(error) or is_too_long:
                raise
        attempt += 1
        await asyncio.sleep(_PATIENCE.delay_s(attempt, None))
