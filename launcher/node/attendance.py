"""Between launcher and broker while a vm is prepared, boots and runs: we are there, and what is to be done with it?

A broker that hears nothing of a dispatch for its launcher's grace gives the item to somebody else, so this goes on from
the first moment to the last, a download of hours included. A broker that does not answer ends nothing.
"""

import asyncio
import contextlib

from broker.client.session import ONCE, CallError
from broker.wire.dispatches import DispatchAnswer, DispatchExtend, DispatchExtended, VmEvent
from broker.wire.states import Instruction, ItemState, Phase, Verdict
from launcher.node.node import Node
from launcher.node.verdicts import TOLD, Ending

_CLAIM_LOOK_S = 1.0
"""How often the broker is asked between the guest's first word and its claim, so that `claimed` is reported early."""


class Attendance:
    """The launcher's presence at one dispatch.

    Attributes:
        greeted: set by the guest's first word.
        was_claimed: whether the broker said that the item is claimed.
    """

    def __init__(self, node: Node, answer: DispatchAnswer) -> None:
        self.greeted = asyncio.Event()
        self.was_claimed = False
        self._node = node
        self._answer = answer
        self._boot_ends_s: float | None = None
        self._is_claim_reported = False

    def vm_booted(self) -> None:
        """Start the boot deadline, within which the guest must claim."""
        self._boot_ends_s = asyncio.get_running_loop().time() + self._answer.limits.boot_ms / 1000

    async def until_told(self) -> Ending:
        """Return when the broker says that the vm is to end, or when the boot deadline has passed without a claim."""
        while True:
            await self._pause()
            told = await self._ask()
            if told is None:
                continue
            if told.instruction is not Instruction.CONTINUE:
                return TOLD[told.instruction]
            await self._note_claim(told)
            if self._is_boot_over():
                seconds = self._answer.limits.boot_ms // 1000
                return Ending(
                    Verdict.NEVER_CLAIMED,
                    f"no guest client claimed the item within {seconds} s of the boot; its console tells why",
                )

    def _is_boot_over(self) -> bool:
        now_s = asyncio.get_running_loop().time()
        return not self.was_claimed and self._boot_ends_s is not None and now_s > self._boot_ends_s

    async def _pause(self) -> None:
        """Wait a heartbeat; less while the claim is to be expected."""
        if self.greeted.is_set() and not self.was_claimed:
            await asyncio.sleep(_CLAIM_LOOK_S)
            return
        sooner = asyncio.Event() if self.was_claimed else self.greeted
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._answer.limits.heartbeat_ms / 1000):
                await sooner.wait()

    async def _ask(self) -> DispatchExtended | None:
        """Show our presence and ask what to do; None when the broker does not answer.

        The next heartbeat makes up for a missed one, and nothing is judged on silence: the vm goes on meanwhile.
        """
        extend = DispatchExtend(launcher=self._node.name)
        try:
            return await self._node.dispatches.extend(self._answer.dispatch, extend, patience=ONCE)
        except CallError:
            return None

    async def _note_claim(self, told: DispatchExtended) -> None:
        if told.state != ItemState.RUNNING or self._is_claim_reported:
            return
        self.was_claimed = True
        claimed = VmEvent(launcher=self._node.name, phase=Phase.CLAIMED)
        with contextlib.suppress(CallError):
            await self._node.dispatches.report(self._answer.dispatch, claimed, patience=ONCE)
            self._is_claim_reported = True
