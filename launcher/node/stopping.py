"""Giving a vm that works on its item the chance to stop by itself, before it is destroyed in a drain.

Who has not claimed has nothing to lose, and is not waited for. Of the others, the guest is asked by its exchange, and
the broker is told, which tells every client that keeps a lease. Meanwhile the vm is watched as ever: a result that is
delivered in time counts, and a vm that powers itself off needs no destroying.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from broker.client.session import CallError, Patience
from broker.wire.dispatches import DispatchAnswer, DispatchExtend
from broker.wire.states import Verdict
from launcher.hypervisor.vm import StopReason
from launcher.node.attendance import Attendance
from launcher.node.draining import Drain, first_of
from launcher.node.exchanges import Exchange
from launcher.node.node import Node
from launcher.node.verdicts import STOPPED, Ending

log = structlog.get_logger()

_TELL_PATIENCE = Patience(attempts=5, total_s=10.0, max_delay_s=2.0)

_ON_REQUEST = frozenset({Verdict.STOPPED_EARLY, Verdict.SUPERSEDED})
_WITH_THE_LAUNCHER = frozenset(
    STOPPED[reason] for reason in (StopReason.GONE, StopReason.FAILED, StopReason.GUEST_SHUTDOWN, StopReason.DESTROYED)
)
"""How a vm looks whose QEMU was sent the launcher's own signal: some batch systems signal every process of a job."""


class Stopping:
    """What a drain does to one vm.

    Attributes:
        was_asked: whether the vm was asked to stop.
    """

    def __init__(self, node: Node, answer: DispatchAnswer, drain: Drain, attendance: Attendance) -> None:
        self.was_asked = False
        self._node = node
        self._answer = answer
        self._drain = drain
        self._attendance = attendance
        self._exchange: Exchange | None = None
        self._log = log.bind(dispatch=answer.dispatch, item=answer.item)

    @contextmanager
    def reaching(self, exchange: Exchange) -> Iterator[None]:
        """Know by which exchange the vm can be asked, from its boot until its result is collected."""
        self._exchange = exchange
        try:
            yield
        finally:
            self._exchange = None

    async def until_over(self) -> Ending:
        """Return when the drain leaves this vm no more time; ask it to stop before, if there is anything to stop."""
        await self._drain.wait()
        if self._attendance.was_claimed and self._drain.left_s() > 0:
            await first_of(self._drain.wait_over(), self._ask_and_wait())
        return self._drain.ending

    def judged(self, ending: Ending) -> Ending:
        """Return the ending of a vm.

        One that gave its item back, or just stopped, when it was asked, was drained; so was one that fell with the
        launcher.
        """
        if self.was_asked and ending.verdict in _ON_REQUEST:
            return self._drain.ending
        if self._drain.is_ordered and ending in _WITH_THE_LAUNCHER:
            return self._drain.ending
        return ending

    async def _ask_and_wait(self) -> None:
        if self._exchange is not None:
            await self._ask(self._exchange, round(self._drain.left_s() * 1000))
        await asyncio.Event().wait()

    async def _ask(self, exchange: Exchange, in_ms: int) -> None:
        self.was_asked = True
        self._log.info("vm_asked_to_stop", in_ms=in_ms, reason=self._drain.ending.sentence)
        await exchange.ask_to_stop(self._drain.ending, in_ms)
        extend = DispatchExtend(launcher=self._node.name, stops_in_ms=in_ms)
        try:
            await self._node.dispatches.extend(self._answer.dispatch, extend, patience=_TELL_PATIENCE)
        except CallError as error:
            self._log.warning("stop_not_told", reason=str(error))
