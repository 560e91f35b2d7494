"""Between launcher and broker while a vm is prepared, boots and runs: we are there, and what is to be done with it?

A broker that hears nothing of a dispatch for its launcher's grace gives the item to somebody else, so this goes on from
the first moment to the last, a download of hours included. A broker that does not answer ends nothing.
"""

import asyncio
import contextlib

from broker.client.repetition import is_passing
from broker.client.session import ONCE, ApiError, CallError
from broker.wire.dispatches import DispatchAnswer, DispatchExtend, DispatchExtended
from broker.wire.states import Instruction, ItemState, Phase, Verdict
from launcher.exchange.reach import Reach
from launcher.node.node import Node
from launcher.node.trust import why_untrusted
from launcher.node.verdicts import TOLD, Ending, network_cut
from launcher.node.vms import NotePhase, ignore_phase

_CLAIM_LOOK_S = 1.0
"""How often the broker is asked between the guest's first word and its claim, so that `claimed` is reported early."""
_LAST_WORD_LOOK_S = 0.2
_CUT_HEARTBEATS = 2
"""A way on which nothing came through for so long was cut, and counts as long again after it opened."""
_CLAIM_AGAIN_S = 30.0
"""What a guest gets at least to claim when the broker is back: it tries again within ten seconds."""


class Attendance:
    """The launcher's presence at one dispatch.

    Attributes:
        greeted: set by the guest's first word.
        was_claimed: whether the item is known to be claimed.
    """

    def __init__(
        self,
        node: Node,
        answer: DispatchAnswer,
        tell: NotePhase = ignore_phase,
        guests_reach: Reach | None = None,
    ) -> None:
        """Make it for a vm that is being prepared.

        Args:
            node: What the vms of this launcher share.
            answer: The dispatch.
            tell: Told the phase `claimed`, once.
            guests_reach: What came of the guest's own tries to reach the broker; None where it makes none.
        """
        self.greeted = asyncio.Event()
        self.was_claimed = False
        self._node = node
        self._answer = answer
        self._tell = tell
        self._reach = Reach()
        self._guests_reach = guests_reach or Reach()
        self._boot_ends_s: float | None = None
        self._heard_s = asyncio.get_running_loop().time()
        self._silence_s = 0.0

    def vm_booted(self) -> None:
        """Start the boot deadline, within which the guest must claim."""
        self._heard_s = asyncio.get_running_loop().time()
        self._boot_ends_s = self._heard_s + self._answer.limits.boot_ms / 1000

    def claimed(self) -> None:
        """Note that the item is claimed. To be told again changes nothing."""
        self.greeted.set()
        if not self.was_claimed:
            self.was_claimed = True
            self._tell(Phase.CLAIMED)

    async def until_told(self) -> Ending:
        """Return when the broker says that the vm is to end, or when the boot deadline has passed without a claim."""
        while True:
            await self._pause()
            told = await self._ask()
            if told is None:
                continue
            if told.instruction is not Instruction.CONTINUE:
                return self.told(told.instruction)
            if told.state == ItemState.RUNNING:
                self.claimed()
            if self._is_boot_over():
                return await self._distrust() or self._never_claimed()

    def told(self, instruction: Instruction) -> Ending:
        """Return what the broker's word means, that the vm is to end: it may be no more than that it was not heard."""
        if instruction is Instruction.DRAIN or not self._cut_s():
            return TOLD[instruction]
        cut_s = self._cut_s()
        return network_cut(f"no way led to the broker for {cut_s:.0f} s, and the item's lease ran out meanwhile")

    async def cut_off(self) -> Ending | None:
        """Return how a vm ended that stopped by itself, where it did so because no way led to the broker."""
        if not self.was_claimed and (distrust := await self._distrust()):
            return distrust
        if not self._cut_s():
            return None
        if not self.was_claimed:
            return self._never_claimed()
        told = await self._ask()
        return None if told is None or told.instruction is Instruction.CONTINUE else self.told(told.instruction)

    async def show(self) -> None:
        """Show once that the vm is still here, so that its item is given to nobody else."""
        await self._ask()

    async def until_settled(self, limit_s: float) -> None:
        """Wait until the broker has the guest's last word, which may still be on its way; at most `limit_s`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(limit_s):
                while await self._is_running():  # noqa: ASYNC110 - the broker has to be asked: no event to wait for
                    await asyncio.sleep(_LAST_WORD_LOOK_S)

    async def _is_running(self) -> bool:
        told = await self._ask()
        return told is None or told.state == ItemState.RUNNING

    async def _distrust(self) -> Ending | None:
        why = await why_untrusted(self._node)
        return network_cut(f"the guest could not claim the item: {why}") if why else None

    def _never_claimed(self) -> Ending:
        seconds = self._answer.limits.boot_ms // 1000
        if cut_s := max(self._cut_s(), self._silence_s):
            return network_cut(f"the guest could not claim the item: no way led to the broker for {cut_s:.0f} s")
        return Ending(Verdict.NEVER_CLAIMED, f"no guest client claimed the item within {seconds} s of the boot")

    def _cut_s(self) -> float:
        """Return for how long no way led to the broker, until now or until a moment ago; 0 when one did."""
        least_s = self._least_cut_s()
        longest_s = max(reach.cut_s(within_s=least_s) for reach in (self._reach, self._guests_reach))
        return longest_s if longest_s >= least_s else 0.0

    def _least_cut_s(self) -> float:
        return _CUT_HEARTBEATS * self._answer.limits.heartbeat_ms / 1000

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

        The next heartbeat makes up for a missed one, and nothing is judged on silence: the vm goes on meanwhile. A
        proxy without its broker, and a broker without its store, are as silent as none.
        """
        extend = DispatchExtend(launcher=self._node.name)
        try:
            told = await self._node.dispatches.extend(self._answer.dispatch, extend, patience=ONCE)
        except CallError as error:
            if isinstance(error, ApiError) and not is_passing(error):
                self._note_answer()
            else:
                self._reach.failed()
            return None
        self._note_answer()
        return told

    def _note_answer(self) -> None:
        """Move the boot deadline by the time in which no broker was there to take a claim, as the broker does."""
        now_s = asyncio.get_running_loop().time()
        if self._reach.is_shut and self._boot_ends_s is not None:
            silence_s = now_s - self._heard_s
            self._boot_ends_s = max(self._boot_ends_s + silence_s, now_s + _CLAIM_AGAIN_S)
            if silence_s >= self._least_cut_s():
                self._silence_s = silence_s
        self._heard_s = now_s
        self._reach.worked()
