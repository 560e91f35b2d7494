import asyncio

from broker.wire.states import HealthCode, Verdict
from launcher.node.draining import LAST_WORDS_S, Drain
from launcher.node.slot import MARGIN_S
from launcher.node.verdicts import Ending

LONG_S = 3_600.0
FIRST = Ending(Verdict.DRAINED, "the slot ends", HealthCode.SLOT_ENDS)


async def is_over(drain: Drain) -> bool:
    """Tell whether nothing is waited for any more, now."""
    waiting = asyncio.create_task(drain.wait_over())
    done, _ = await asyncio.wait({waiting}, timeout=0.01)
    waiting.cancel()
    return bool(done)


async def test_who_is_signalled_was_told_to_drain() -> None:
    drain = Drain(LONG_S)
    drain.signalled()
    assert (drain.ending.verdict, drain.ending.code) == (Verdict.DRAINED, HealthCode.TOLD_TO_DRAIN)


async def test_the_first_signal_begins_the_grace_and_the_second_ends_it() -> None:
    drain = Drain(LONG_S)
    drain.signalled()
    assert drain.is_ordered
    assert not await is_over(drain)
    assert LONG_S - 5 < drain.left_s() <= LONG_S
    drain.signalled()
    assert await is_over(drain)
    assert drain.left_s() == 0


async def test_a_signal_ends_the_grace_of_a_drain_that_the_slots_end_ordered() -> None:
    drain = Drain(LONG_S)
    drain.order(FIRST)
    drain.signalled()
    assert await is_over(drain)
    assert drain.ending == FIRST


async def test_the_first_orders_reason_and_time_count() -> None:
    drain = Drain(LONG_S)
    drain.order(FIRST)
    drain.order(Ending(Verdict.HOST_ERROR, "something else"))
    assert drain.ending == FIRST
    assert not await is_over(drain)


async def test_an_order_at_once_has_no_grace() -> None:
    drain = Drain(LONG_S)
    drain.order_at_once(FIRST)
    assert drain.ending == FIRST
    assert await is_over(drain)


async def test_what_is_left_for_the_brokers_ear_counts_from_the_end_of_the_grace() -> None:
    drain = Drain(LONG_S)
    assert drain.words_left_s() == LAST_WORDS_S
    drain.order()
    assert drain.words_left_s() > LAST_WORDS_S
    drain.signalled()
    assert drain.words_left_s() <= LAST_WORDS_S < MARGIN_S


async def test_a_grace_of_nothing_is_over_with_the_order() -> None:
    drain = Drain()
    assert not await is_over(drain)
    drain.order()
    assert await is_over(drain)
