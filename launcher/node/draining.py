"""The order to stop, and work that something else cuts short.

A drain has two stages. At the order nothing more is taken, and each vm is asked to stop; it may give its item back, or
finish. After the grace what still runs is destroyed. A second signal ends the grace at once.
"""

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any, TypeVar

from broker.wire.states import Instruction
from launcher.node.verdicts import TOLD, Ending

T = TypeVar("T")

LAST_WORDS_S = 10.0
"""After the grace: the time of all that is still to be told to the broker, be it there or not."""
_LEAST_WORDS_S = 1.0


class Drain:
    """The order to give every vm up, and the ending that they get by it.

    Args:
        grace_s: From the order to the time when vms are destroyed.

    Attributes:
        ending: what the vms' items are told; the first order's counts.
        has_lost_vms: whether the vms are gone already, with their libvirtd.
    """

    def __init__(self, grace_s: float = 0.0) -> None:
        self.ending = TOLD[Instruction.DRAIN]
        self.has_lost_vms = False
        self._grace_s = grace_s
        self._ends_at_s = 0.0
        self._ordered = asyncio.Event()
        self._hurried = asyncio.Event()

    @property
    def is_ordered(self) -> bool:
        return self._ordered.is_set()

    def order(self, ending: Ending | None = None) -> None:
        """Order it, for the reason given; later orders change nothing."""
        if self.is_ordered:
            return
        if ending is not None:
            self.ending = ending
        self._ends_at_s = asyncio.get_running_loop().time() + self._grace_s
        self._ordered.set()

    def order_at_once(self, ending: Ending | None = None) -> None:
        """Order it without a grace, or end the grace of an earlier order."""
        self.order(ending)
        self._ends_at_s = min(self._ends_at_s, asyncio.get_running_loop().time())
        self._hurried.set()

    def signalled(self) -> None:
        """Take a signal: the first orders the drain, the next ends its grace."""
        if self.is_ordered:
            self.order_at_once()
        else:
            self.order()

    async def wait(self) -> None:
        """Wait for the order."""
        await self._ordered.wait()

    def left_s(self) -> float:
        """Return what is left of an ordered drain's grace."""
        return max(0.0, self._ends_at_s - asyncio.get_running_loop().time())

    def words_left_s(self) -> float:
        """Return for how long the broker may still be spoken to, enough for one word; all of it before the order."""
        if not self.is_ordered:
            return LAST_WORDS_S
        return max(_LEAST_WORDS_S, self._ends_at_s + LAST_WORDS_S - asyncio.get_running_loop().time())

    async def wait_over(self) -> None:
        """Wait for the end of the grace."""
        await self._ordered.wait()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.left_s()):
                await self._hurried.wait()


async def first_of(work: Coroutine[Any, Any, T], *others: Coroutine[Any, Any, T]) -> T:
    """Return the result of whichever ends first; the rest are cancelled, and their clean-up awaited.

    When several ended at once the first named counts. Its own error, and a cancellation of the caller, pass through;
    what goes wrong in the clean-up of the rest does not.
    """
    tasks = [asyncio.ensure_future(one) for one in (work, *others)]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        winner = next(task for task in tasks if task.done())
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    for loser in tasks:
        if loser is not winner and not loser.cancelled():
            loser.exception()  # looked at, so that asyncio does not complain of it
    return winner.result()


async def unless_drained(drain: Drain, work: Coroutine[Any, Any, T]) -> T | None:
    """Return the work's result, or None when the drain is ordered first."""
    return await first_of(work, drain.wait())
