"""What becomes of an item whose attempt or boot ended without a result."""

from typing import NamedTuple

from broker.wire.states import EXIT_GIVE_BACK, ItemState
from broker.wire.streams import Retry

FIRST_GIVE_BACK = 1


class Outcome(NamedTuple):
    """Where the item goes: `ready` at the head, `delayed` for `delay_ms`, or `held`."""

    state: ItemState
    delay_ms: int = 0


_READY_AT_HEAD = Outcome(ItemState.READY)
_HELD = Outcome(ItemState.HELD)


def backoff_ms(retry: Retry, nth: int, jitter: float) -> int:
    """Return the pause before try `nth` + 1: doubled each time up to the bound, spread by `jitter` in [0, 1).

    The spread takes away up to half, so that items which failed together do not come back together.
    """
    full = min(retry.backoff_max_ms, retry.backoff_first_ms * 2 ** min(nth - 1, 30))
    return int(full * (1 - jitter / 2))


def after_failure(retry: Retry, attempts: int, exit_code: int | None, jitter: float) -> Outcome:
    """Decide after a failed attempt; `attempts` counts it already."""
    if exit_code is not None and exit_code in retry.hold_exit_codes:
        return _HELD
    if attempts >= retry.attempts:
        return _HELD
    return Outcome(ItemState.DELAYED, backoff_ms(retry, attempts, jitter))


def after_give_back(retry: Retry, boots: int, given_back: int, jitter: float) -> Outcome:
    """Decide after a give back; `boots` and `given_back` (in a row, without a claim that lasted) count it already."""
    if boots >= retry.boots:
        return _HELD
    if given_back <= FIRST_GIVE_BACK:
        return _READY_AT_HEAD
    return Outcome(ItemState.DELAYED, backoff_ms(retry, given_back - FIRST_GIVE_BACK, jitter))


def is_give_back(exit_code: int | None) -> bool:
    """Tell whether the program said that the attempt was not its fault."""
    return exit_code == EXIT_GIVE_BACK
