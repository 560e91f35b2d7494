"""How a launcher stands: its room, its vms and its node's health, and the news that one of them changed."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime

import msgspec
import structlog

from broker.wire.dispatches import DispatchAnswer, Room
from broker.wire.launchers import Health
from broker.wire.states import HealthState, Phase
from launcher.node.health import NodeHealth
from launcher.node.slot import Slot
from launcher.node.verdicts import Ending
from launcher.node.vms import NotePhase, Outcome, Vms

log = structlog.get_logger()


class Standing:
    """What is known of one launcher, for those who act on it and those who tell of it. Made inside the running loop.

    Attributes:
        slot: what it lends.
        vms: what runs.
        changes: grows with each change; `wait_changed` tells of the next.
        idle_since_s: since when it has had no vm, by the loop's clock; None while it has one.
    """

    def __init__(self, slot: Slot) -> None:
        self.slot = slot
        self.vms = Vms()
        self.changes = 0
        self.idle_since_s: float | None = _now_s()
        self._health = NodeHealth(_now_s())
        self._logged = HealthState.HEALTHY
        self._total = slot.free()
        self._changed = asyncio.Event()

    @property
    def health(self) -> Health:
        """How the node is now."""
        return self._health.told(_now_s(), datetime.now(UTC))

    @property
    def total(self) -> Room:
        """What one vm could get when no other runs."""
        return msgspec.structs.replace(self._total, time_left_ms=self.slot.free().time_left_ms)

    def room(self) -> Room | None:
        """Return what one more vm may get now; None when there is no room, or the node is not well enough."""
        return self.slot.room() if self._health.admits(_now_s()) else None

    async def wait_changed(self, since: int) -> None:
        """Return once `changes` is beyond `since`, or the health's time has come; at once when it is already."""
        while self.changes == since:
            self._changed.clear()
            wait_s = self._health.wait_s(_now_s())
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._changed.wait()
                continue
            self._note_change()

    @contextmanager
    def taken(self, answer: DispatchAnswer) -> Iterator[NotePhase]:
        """Hold a vm's share of the slot while the block runs, which notes the vm's phases."""
        with self.slot.taken(vcpus=answer.vcpus, memory_mib=answer.memory_mib, disk_mib=answer.disk_mib):
            self.vms.add(answer, datetime.now(UTC))
            self.idle_since_s = None
            self._health.taken(answer.dispatch, _now_s())
            self._note_change()
            try:
                yield lambda phase: self._note_phase(answer.dispatch, phase)
            finally:
                self.vms.remove(answer.dispatch)
                if not self.vms:
                    self.idle_since_s = _now_s()
        self._note_change()

    def ended(self, dispatch: str, outcome: Outcome) -> None:
        """Note what a vm's end says of the node."""
        if outcome.is_claim_proved:
            self._health.claimed(dispatch, _now_s())
        self._health.ended(dispatch, outcome.ending, _now_s(), machine_claimed=outcome.machine_claimed)
        self._note_change()

    def drained(self, ending: Ending) -> None:
        """Note that nothing more is taken, and why."""
        self._health.drained(ending, _now_s())
        self._note_change()

    def _note_phase(self, dispatch: str, phase: Phase) -> None:
        self.vms.note(dispatch, phase, datetime.now(UTC))
        if phase is Phase.CLAIMED:
            self._health.claimed(dispatch, _now_s())
        self._note_change()

    def _log_health(self) -> None:
        health = self.health
        if health.state is self._logged:
            return
        self._logged = health.state
        told = {"code": health.code, "sentence": health.sentence, "retry_at": health.retry_at}
        write = log.info if health.state is HealthState.HEALTHY else log.warning
        write("health_changed", state=health.state.value, **{name: value for name, value in told.items() if value})

    def _note_change(self) -> None:
        self.changes += 1
        self._log_health()
        self._changed.set()


def _now_s() -> float:
    return asyncio.get_running_loop().time()
