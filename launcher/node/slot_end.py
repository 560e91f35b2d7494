"""The slot's end: before it, the launcher drains by itself, and ends."""

import asyncio
import time
from datetime import UTC, datetime

import structlog

from broker.wire.states import HealthCode, Verdict
from launcher.node.draining import Drain
from launcher.node.slot import Slot
from launcher.node.verdicts import Ending
from launcher.slot import Fact, read_late_end

log = structlog.get_logger()

_LOOK_S = 5.0


async def drain_before_end(slot: Slot, drain: Drain) -> None:
    """Order the drain in time, or earlier, when nothing runs and nothing more fits; never, when no end is ever known.

    A node may tell its end late: the sources that do are read again and again.
    """
    while True:
        slot.learn_end(await asyncio.to_thread(read_late_end), time.time())
        left_s = slot.left_s()
        if slot.end is not None and left_s is not None:
            if left_s <= 0 or (slot.is_late and slot.is_idle):
                return _order(slot.end, drain)
            await asyncio.sleep(min(_LOOK_S, left_s))
        else:
            await asyncio.sleep(_LOOK_S)


def _order(end: Fact, drain: Drain) -> None:
    at = datetime.fromtimestamp(end.value, UTC).isoformat().replace("+00:00", "Z")
    log.info("slot_ends", at=at, source=end.source)
    sentence = f"the slot ends at {at}, as told by {end.source}"
    drain.order(Ending(Verdict.DRAINED, sentence, HealthCode.SLOT_ENDS))
