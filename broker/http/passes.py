"""When the waiting room is gone through, and for how many: through all of it at every bell, and by itself where bells
were lost; before that, where items are on their way to the store, for as many as those are.

The bell of items that were expected comes right behind them, and mostly finds nothing more. So it is answered a moment
later: who was given them gets them first, and bells of that moment are answered together.
"""

import asyncio
import math

from broker.http.bells import SLOW_POLL_S

MOMENT_S = 0.002
LATE_S = 0.05
"""A bell waits no longer for what is expected again and again."""


class Passes:
    """Bells and expectations, until they are answered by a pass through the room."""

    def __init__(self) -> None:
        self._woken = asyncio.Event()
        self._expected = 0
        self._rung_at_s = math.inf
        self._quiet_until_s = 0.0
        self._looked_at_all_s: float | None = None

    def ring(self) -> bool:
        """Say that something is ready; tell whether it was not expected just now."""
        loop = asyncio.get_running_loop()
        self._rung_at_s = min(self._rung_at_s, loop.time())
        if self._quiet_until_s <= loop.time():
            self._woken.set()
            return True
        if self._quiet_until_s < math.inf:
            loop.call_at(self._quiet_until_s, self._woken.set)
        return False

    def expect(self, items: int) -> None:
        """Say that so many items are on their way to the store."""
        self._expected += items
        self._quiet_until_s = math.inf
        self._woken.set()

    async def due(self) -> float:
        """Wait until it is time for a pass; return how many it is for at most."""
        loop = asyncio.get_running_loop()
        self._looked_at_all_s = self._looked_at_all_s or loop.time()
        while True:
            timer = loop.call_at(self._looked_at_all_s + SLOW_POLL_S, self.ring)
            await self._woken.wait()
            timer.cancel()
            self._woken.clear()
            expected, self._expected = self._expected, 0
            if expected and loop.time() < min(self._rung_at_s + LATE_S, self._looked_at_all_s + SLOW_POLL_S):
                return expected
            if expected or self._rung_at_s < math.inf:
                self._rung_at_s, self._looked_at_all_s = math.inf, loop.time()
                return math.inf

    def passed(self) -> None:
        """Say that the pass is over."""
        if self._expected or self._quiet_until_s < math.inf:
            return
        loop = asyncio.get_running_loop()
        self._quiet_until_s = loop.time() + MOMENT_S
        if self._rung_at_s < math.inf:
            loop.call_at(self._quiet_until_s, self._woken.set)
