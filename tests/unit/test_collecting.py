"""When Python looks for cyclic garbage in a broker."""

import asyncio
import gc
import weakref
from collections.abc import Iterator
from contextlib import suppress

import pytest

from broker.collecting import FULL_EVERY_S, Collecting, keep_collected, resident_bytes

MIB = 1_048_576


class Knot:
    """An object that only the collector frees."""

    def __init__(self) -> None:
        self.itself = self


def knot() -> "weakref.ref[Knot]":
    return weakref.ref(Knot())


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Have nothing collected but what the test asks for."""
    gc.disable()
    yield
    gc.enable()


def test_what_died_young_is_found_at_the_next_look() -> None:
    collecting_ = Collecting(0)
    dead = knot()

    assert collecting_.look(0.1) is False
    assert dead() is None


def test_what_had_lived_through_a_look_is_found_after_ten_minutes() -> None:
    collecting_ = Collecting(0)
    living = Knot()
    dead = weakref.ref(living)
    collecting_.look(0.1)
    del living

    assert collecting_.look(FULL_EVERY_S - 1) is False
    assert dead() is not None
    assert collecting_.look(FULL_EVERY_S) is True
    assert dead() is None
    assert collecting_.look(FULL_EVERY_S + 1) is False, "the next ten minutes have begun"


def test_it_is_found_sooner_where_much_more_memory_is_taken_than_before() -> None:
    taken = 100 * MIB
    collecting_ = Collecting(0, lambda: taken)
    taken = 180 * MIB
    assert collecting_.look(0.1) is False

    taken = 200 * MIB

    assert collecting_.look(0.2) is True
    assert collecting_.look(0.3) is False, "what is there now is what is compared with"


def test_memory_is_told_as_it_is() -> None:
    before = resident_bytes()
    block = bytes(range(256)) * (128 * MIB // 256)

    assert 100 * MIB < resident_bytes() - before < 200 * MIB
    assert len(block) == 128 * MIB


async def test_python_has_its_own_rule_again_when_the_broker_has_ended() -> None:
    before = gc.get_threshold()
    task = asyncio.create_task(keep_collected())
    await asyncio.sleep(0.01)
    assert gc.get_threshold() != before

    task.cancel()
    with suppress(asyncio.CancelledError):
        await task

    assert gc.get_threshold() == before
