"""The launcher's main loop: while there is room, offer it; run what is given; on a drain, give everything back.

A launcher may also end by itself: once it had no vm for too long, or has taken as many items as it was to. Then what
runs is let finish. Its last offer waits no longer than it may itself, so that the broker ends it: an item that is given
in the last moment arrives, and is run. An offer that is cut off instead, by a drain, may cost its item the time until
the broker misses the launcher.
"""

import asyncio
import math
import uuid
from contextlib import ExitStack, suppress

import structlog

from broker.client.session import ApiError, CallError, Unreachable
from broker.wire.dispatches import DispatchAnswer, DispatchRequest
from broker.wire.states import HealthCode, Verdict
from launcher.node.bounds import Bounds
from launcher.node.draining import Drain, unless_drained
from launcher.node.node import Node
from launcher.node.presence import About
from launcher.node.standing import Standing
from launcher.node.verdicts import Ending
from launcher.node.vm_run import VmRun
from launcher.node.vms import NotePhase

log = structlog.get_logger()

_WAIT_MS = 20_000
_PAUSE_AFTER_ERROR_S = 5.0
_LAST_ANSWER_S = 20.0
"""How much longer than the last offer waits its answer is waited for: as long as a broker may take for any."""
_LASTING = frozenset({400, 401, 403, 404, 422})
"""Statuses of an offer that asking again does not change, when they are the broker's own and not a proxy's."""
_UNTRUSTED_S = 900.0
"""How long a broker that was trusted once may show a certificate that is not: its operator may yet put it right."""


class Agent:
    """Offers the slot's room to the broker until it is told to drain, as far as the node's health allows.

    Args:
        node: What its vms share.
        standing: What is known of the launcher.
        about: What it tells of itself.
        bounds: When it ends without being told to.
    """

    def __init__(self, node: Node, standing: Standing, about: About, bounds: Bounds | None = None) -> None:
        self._node = node
        self._standing = standing
        self._about = about
        self._bounds = bounds or Bounds()
        self._taken = 0
        self._trusted_until_s = -math.inf

    async def run(self, drain: Drain) -> CallError | None:
        """Work until the drain is ordered, or a bound is met.

        On a drain every vm is asked to stop and then destroyed, and its item given back; a bound lets the vms finish.

        Returns:
            The broker's refusal of this launcher, or why it is not to be trusted, when that ended the work: asking
            again does not help.
        """
        refusal: CallError | None = None
        async with asyncio.TaskGroup() as vms:
            while not drain.is_ordered and not self._ends_by_itself():
                try:
                    answer = await unless_drained(drain, self._next_in_time())
                except CallError as error:
                    # The vms that run go on to their ends; what they deliver is the guests' own business.
                    refusal = error
                    sentence = f"the broker {_what_is_wrong(error)}: {error}"
                    self._standing.drained(Ending(Verdict.DRAINED, sentence, HealthCode.TOLD_TO_DRAIN))
                    break
                if answer is not None:
                    self._taken += 1
                    share = ExitStack()
                    note_phase = share.enter_context(self._standing.taken(answer))
                    vms.create_task(self._run_vm(answer, share, note_phase, drain))
            if drain.is_ordered:
                self._standing.drained(drain.ending)
        return refusal

    def _idle_left_s(self) -> float | None:
        return self._bounds.idle_left_s(self._standing.idle_since_s, asyncio.get_running_loop().time())

    def _ends_by_itself(self) -> bool:
        """Tell whether a bound is met, and note it."""
        if self._idle_left_s() == 0:
            log.info("idle_ended", idle_s=self._bounds.idle_s)
            self._standing.drained(self._bounds.idle_ending())
            return True
        if self._bounds.items is not None and self._taken >= self._bounds.items:
            log.info("items_taken", items=self._taken)
            self._standing.drained(self._bounds.items_ending())
            return True
        return False

    async def _next_in_time(self) -> DispatchAnswer | None:
        """Return the next item, or None; that too when nobody answers for much longer than the launcher is to wait."""
        left_s = self._idle_left_s()
        with suppress(TimeoutError):
            async with asyncio.timeout(None if left_s is None else left_s + _LAST_ANSWER_S):
                return await self._next()
        return None

    async def _next(self) -> DispatchAnswer | None:
        """Return the next item, or None after a wait in which none came."""
        changes = self._standing.changes
        room = self._standing.room()
        left_s = self._idle_left_s()
        if room is None:
            with suppress(TimeoutError):
                async with asyncio.timeout(left_s):
                    await self._standing.wait_changed(changes)
            return None
        request = DispatchRequest(
            dispatch_key=str(uuid.uuid4()),
            launcher=self._node.name,
            node=self._about.node_name,
            room=room,
            wait_ms=_WAIT_MS if left_s is None else min(_WAIT_MS, math.ceil(left_s * 1000)),
            client=self._about.client,
            users=self._about.users,
        )
        try:
            answer = await self._node.dispatches.dispatch(request)
        except CallError as error:
            if self._is_final(error):
                raise
            log.warning("offer_not_answered", reason=str(error))
            await asyncio.sleep(_PAUSE_AFTER_ERROR_S)
            return None
        self._trusted_until_s = asyncio.get_running_loop().time() + _UNTRUSTED_S
        return answer

    def _is_final(self, error: CallError) -> bool:
        if isinstance(error, ApiError):
            return error.is_brokers and error.status in _LASTING
        is_lasting = isinstance(error, Unreachable) and error.is_lasting
        return is_lasting and asyncio.get_running_loop().time() >= self._trusted_until_s

    async def _run_vm(self, answer: DispatchAnswer, share: ExitStack, note_phase: NotePhase, drain: Drain) -> None:
        with share:
            outcome = await VmRun(self._node, answer, note_phase).run(drain)
            self._standing.ended(answer.dispatch, outcome)


def _what_is_wrong(error: CallError) -> str:
    return "refuses this launcher" if isinstance(error, ApiError) else "cannot be trusted"
