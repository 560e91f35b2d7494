"""When the waiting room is gone through, and for how many."""

import asyncio
import math

import pytest

from broker.http import passes
from broker.http.passes import LATE_S, MOMENT_S, Passes

NEVER_S = 5 * MOMENT_S


async def none_due(passes_: Passes, within_s: float = NEVER_S) -> bool:
    try:
        async with asyncio.timeout(within_s):
            await passes_.due()
    except TimeoutError:
        return True
    return False


async def test_a_bell_is_answered_by_all_of_the_room_and_once() -> None:
    passes_ = Passes()
    assert passes_.ring()
    assert passes_.ring()

    assert await passes_.due() == math.inf
    passes_.passed()

    assert await none_due(passes_)


async def test_what_is_expected_is_for_as_many_and_its_bell_is_answered_a_moment_later() -> None:
    passes_, clock = Passes(), asyncio.get_running_loop().time
    passes_.expect(2)
    passes_.expect(1)
    assert await passes_.due() == 3
    assert not passes_.ring(), "it was expected"
    passed_s = clock()
    passes_.passed()

    assert await passes_.due() == math.inf
    assert clock() - passed_s >= MOMENT_S / 2
    passes_.passed()
    assert await none_due(passes_)


async def test_a_bell_that_comes_after_what_was_expected_was_given_is_answered_a_moment_later_too() -> None:
    passes_ = Passes()
    passes_.expect(1)
    assert await passes_.due() == 1
    passes_.passed()
    assert await none_due(passes_)

    passes_.expect(1)
    assert await passes_.due() == 1
    passes_.passed()
    assert not passes_.ring()
    assert await passes_.due() == math.inf


async def test_what_is_expected_meanwhile_is_not_kept_waiting() -> None:
    passes_ = Passes()
    passes_.expect(1)
    assert await passes_.due() == 1
    passes_.expect(4)
    passes_.passed()

    assert await passes_.due() == 4


async def test_a_bell_is_not_put_off_for_ever_by_what_is_expected_again_and_again() -> None:
    passes_, clock = Passes(), asyncio.get_running_loop().time
    passes_.expect(1)
    assert await passes_.due() == 1
    rung_s = clock()
    passes_.ring()
    most = 1.0
    while most < math.inf:
        assert clock() - rung_s < 100 * LATE_S
        passes_.expect(1)
        passes_.passed()
        most = await passes_.due()
        await asyncio.sleep(0.001)

    assert clock() - rung_s >= LATE_S


async def test_the_room_is_gone_through_by_itself_though_something_is_expected_again_and_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The bells' connection may be away meanwhile."""
    monkeypatch.setattr(passes, "SLOW_POLL_S", 0.1)
    monkeypatch.setattr(passes, "LATE_S", 0.02)
    passes_, most = Passes(), 1.0
    async with asyncio.timeout(10):
        while most < math.inf:
            passes_.expect(1)
            most = await passes_.due()
            passes_.passed()
            await asyncio.sleep(0.01)


async def test_where_no_bell_comes_the_room_is_gone_through_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passes, "SLOW_POLL_S", 0.01)

    assert await Passes().due() == math.inf
