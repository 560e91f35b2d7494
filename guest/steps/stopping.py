"""The word that this vm has to end soon: from the launcher by the port, or from the broker with a heartbeat.

What is not finished then is given back. The first word counts.
"""

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

from guest.steps.port import Port

HAND_BACK_S = 5.0
"""Kept of what is left, to stop the program, tell the broker, and power off."""


class StopOrder(NamedTuple):
    """`at_s`, of the monotonic clock: when the vm will be destroyed."""

    reason: str
    at_s: float

    @property
    def left_s(self) -> float:
        """Return what is left for the work itself: all but what handing back takes, which is never more than half."""
        left_s = max(0.0, self.at_s - time.monotonic())
        return max(left_s / 2, left_s - HAND_BACK_S)


class StopOrders:
    """Where the order arrives, and is waited for."""

    def __init__(self) -> None:
        self.given: StopOrder | None = None
        self._arrived = asyncio.Event()

    def give(self, reason: str, in_ms: int) -> None:
        """Order it; only the first order counts."""
        if self.given is None:
            self.given = StopOrder(reason, time.monotonic() + in_ms / 1000)
            self._arrived.set()

    async def wait(self) -> StopOrder:
        """Wait for the order."""
        await self._arrived.wait()
        assert self.given is not None
        return self.given


@contextmanager
def listening(port: Port | None, orders: StopOrders) -> Iterator[None]:
    """Hear the launcher's order for the time of the block, in a thread: the port is read without asyncio."""
    if port is None:
        yield
        return
    loop = asyncio.get_running_loop()
    over = threading.Event()

    def listen() -> None:
        while not over.is_set():
            stop = port.read_stop()
            if stop is not None and not over.is_set():
                with suppress(RuntimeError):  # the work has ended meanwhile, and its loop with it
                    loop.call_soon_threadsafe(orders.give, stop.reason, stop.in_ms)
                return

    threading.Thread(target=listen, daemon=True).start()
    try:
        yield
    finally:
        over.set()
