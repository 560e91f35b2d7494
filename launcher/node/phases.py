"""A vm's phases on their way to the broker: in order, and beside the vm's own way, which waits for none.

One whose telling is cut short is told again by `tell_rest`: to the broker a phase told twice is told once.
"""

import asyncio
from collections import deque
from contextlib import suppress
from typing import Final

import structlog

from broker.client.repetition import answered
from broker.client.session import ONCE, CallError, Patience
from broker.wire.dispatches import DispatchAnswer, VmEvent
from broker.wire.states import Instruction, Phase
from launcher.node.node import Node
from launcher.node.vms import NotePhase, ignore_phase

log = structlog.get_logger()

_PATIENCE: Final = Patience(attempts=1_000, total_s=900.0)
_REST_S: Final = 3.0
"""How long the end of a vm waits for what was not yet told of it."""


class Phases:
    """What is told of one dispatch."""

    def __init__(self, node: Node, answer: DispatchAnswer, note_phase: NotePhase = ignore_phase) -> None:
        self._node = node
        self._dispatch = answer.dispatch
        self._note_phase = note_phase
        self._waiting: deque[VmEvent] = deque()
        self._news = asyncio.Event()
        self._log = log.bind(dispatch=answer.dispatch, item=answer.item)

    def tell(self, phase: Phase, **facts: str) -> None:
        """Have the broker told; the launcher's own book and log know at once."""
        self._log.info("vm_phase", phase=phase.value)
        self._note_phase(phase)
        self._waiting.append(VmEvent(launcher=self._node.name, phase=phase, facts=facts))
        self._news.set()

    async def until_told(self) -> Instruction:
        """Tell, for ever; return when the broker answers something else than `continue`."""
        while True:
            while self._waiting:
                told = await self._tell_next()
                if told is not Instruction.CONTINUE:
                    return told
            self._news.clear()
            await self._news.wait()

    async def tell_rest(self, limit_s: float) -> None:
        """Tell what was not told yet, as far as that goes quickly, and within `limit_s`: the vm is over."""
        with suppress(TimeoutError):
            async with asyncio.timeout(min(_REST_S, limit_s)):
                while self._waiting:
                    await self._tell_next()

    async def _tell_next(self) -> Instruction:
        event = self._waiting[0]
        try:
            report = self._node.dispatches.report
            told = (await answered(lambda: report(self._dispatch, event, patience=ONCE), _PATIENCE)).instruction
        except CallError as error:
            # A vm goes on without: the presence at its dispatch, and its guest's claim, are what counts.
            self._log.warning("phase_not_delivered", phase=event.phase.value, reason=str(error))
            told = Instruction.CONTINUE
        self._waiting.popleft()
        return told
