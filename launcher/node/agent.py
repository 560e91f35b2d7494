"""The launcher's main loop: while there is room, offer it; run what is given; on a drain, give everything back."""

import asyncio
import uuid
from contextlib import ExitStack

import structlog

from broker.client.session import ApiError, CallError
from broker.wire.dispatches import DispatchAnswer, DispatchRequest
from broker.wire.states import HealthCode, Verdict
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
_LASTING = frozenset({400, 401, 403, 404, 422})
"""Statuses of an offer that asking again does not change, when they are the broker's own and not a proxy's."""


class Agent:
    """Offers the slot's room to the broker until it is told to drain, as far as the node's health allows."""

    def __init__(self, node: Node, standing: Standing, about: About) -> None:
        self._node = node
        self._standing = standing
        self._about = about

    async def run(self, drain: Drain) -> ApiError | None:
        """Work until the drain is ordered; then every vm is destroyed, its item given back, and this returns.

        Returns:
            The broker's refusal of this launcher, when that ended the work: asking again does not help.
        """
        refusal: ApiError | None = None
        async with asyncio.TaskGroup() as vms:
            while not drain.is_ordered:
                try:
                    answer = await unless_drained(drain, self._next())
                except ApiError as error:
                    # The vms that run go on to their ends; what they deliver is the guests' own business.
                    refusal = error
                    sentence = f"the broker refuses this launcher: {error}"
                    self._standing.drained(Ending(Verdict.DRAINED, sentence, HealthCode.TOLD_TO_DRAIN))
                    break
                if answer is not None:
                    share = ExitStack()
                    note_phase = share.enter_context(self._standing.taken(answer))
                    vms.create_task(self._run_vm(answer, share, note_phase, drain))
            if drain.is_ordered:
                self._standing.drained(drain.ending)
        return refusal

    async def _next(self) -> DispatchAnswer | None:
        """Return the next item, or None after a wait in which none came."""
        changes = self._standing.changes
        room = self._standing.room()
        if room is None:
            await self._standing.wait_changed(changes)
            return None
        request = DispatchRequest(
            dispatch_key=str(uuid.uuid4()),
            launcher=self._node.name,
            node=self._about.node_name,
            room=room,
            wait_ms=_WAIT_MS,
            client=self._about.client,
            users=self._about.users,
        )
        try:
            return await self._node.dispatches.dispatch(request)
        except CallError as error:
            if isinstance(error, ApiError) and error.is_brokers and error.status in _LASTING:
                raise
            log.warning("offer_not_answered", reason=str(error))
            await asyncio.sleep(_PAUSE_AFTER_ERROR_S)
            return None

    async def _run_vm(self, answer: DispatchAnswer, share: ExitStack, note_phase: NotePhase, drain: Drain) -> None:
        with share:
            outcome = await VmRun(self._node, answer, note_phase).run(drain)
            self._standing.ended(answer.dispatch, outcome)
