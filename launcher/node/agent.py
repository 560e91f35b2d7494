"""The launcher's main loop: while there is room, offer it; run what is given; on a drain, give everything back."""

import asyncio
import uuid
from contextlib import ExitStack

import structlog

from broker.client.session import ApiError, CallError
from broker.wire.dispatches import DispatchAnswer, DispatchRequest
from broker.wire.states import Verdict
from launcher.node.draining import Drain, unless_drained
from launcher.node.node import Node
from launcher.node.vm_run import VmRun

log = structlog.get_logger()

_WAIT_MS = 20_000
_PAUSE_AFTER_ERROR_S = 5.0
_PAUSE_AFTER_FAULT_S = 10.0
_LONGEST_PAUSE_S = 600.0
_LASTING = frozenset({400, 401, 403, 404, 422})
"""Statuses of an offer that asking again does not change."""


class Agent:
    """Offers the slot's room to the broker until it is told to drain."""

    def __init__(self, node: Node, *, node_name: str, client: str) -> None:
        self._node = node
        self._node_name = node_name
        self._client = client
        self._freed = asyncio.Event()
        self._faults = 0

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
                    break
                if answer is not None:
                    share = ExitStack()
                    share.enter_context(
                        self._node.slot.taken(
                            vcpus=answer.vcpus, memory_mib=answer.memory_mib, disk_mib=answer.disk_mib
                        )
                    )
                    vms.create_task(self._run_vm(answer, share, drain))
        return refusal

    async def _next(self) -> DispatchAnswer | None:
        """Return the next item, or None after a wait in which none came."""
        await self._pause_after_faults()
        self._freed.clear()
        room = self._node.slot.room()
        if room is None:
            await self._freed.wait()
            return None
        request = DispatchRequest(
            dispatch_key=str(uuid.uuid4()),
            launcher=self._node.name,
            node=self._node_name,
            room=room,
            wait_ms=_WAIT_MS,
            client=self._client,
        )
        try:
            return await self._node.dispatches.dispatch(request)
        except CallError as error:
            if isinstance(error, ApiError) and error.status in _LASTING:
                raise
            log.warning("offer_not_answered", reason=str(error))
            await asyncio.sleep(_PAUSE_AFTER_ERROR_S)
            return None

    async def _run_vm(self, answer: DispatchAnswer, share: ExitStack, drain: Drain) -> None:
        with share:
            ending = await VmRun(self._node, answer).run(drain)
        self._faults = self._faults + 1 if ending.verdict is Verdict.HOST_ERROR else 0
        self._freed.set()

    async def _pause_after_faults(self) -> None:
        """After a fault of the node's own wait, longer each time: a sick node must not burn item after item."""
        if self._faults:
            pause_s = min(_LONGEST_PAUSE_S, _PAUSE_AFTER_FAULT_S * 2 ** min(self._faults - 1, 16))
            log.warning("offers_paused", faults=self._faults, pause_s=pause_s)
            await asyncio.sleep(pause_s)
