"""The order to stop, and work that something else cuts short."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from broker.wire.states import Instruction
from launcher.node.verdicts import TOLD, Ending

T = TypeVar("T")


class Drain:
    """The order to give every vm up, and the ending that they get by it.

    Attributes:
        ending: what the vms' items are told; the first order's counts.
    """

    def __init__(self) -> None:
        self.ending = TOLD[Instruction.DRAIN]
        self._ordered = asyncio.Event()

    @property
    def is_ordered(self) -> bool:
        return self._ordered.is_set()

    def order(self, ending: Ending | None = None) -> None:
        """Order it, for the reason given; later orders change nothing."""
        if ending is not None and not self.is_ordered:
            self.ending = ending
        self._ordered.set()

    async def wait(self) -> None:
        """Wait for the order."""
        await self._ordered.wait()


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
